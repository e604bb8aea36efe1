import type { ConnectRequest } from '../auth/authenticator.js';
import type { ConatIdentity, ConatPermissions } from '../auth/identity.js';
import type { BrokerMetrics, TransportKind } from './broker-metrics.js';
import type { IdentityRates } from './token-bucket.js';
import type { BrokerLimits } from './limits.js';
import type { MessageTrace, TracedListener, TraceRequest } from './message-trace.js';
import type { PublishOp } from './parser.js';
import type { CloseReason } from './protocol-texts.js';

/** The socket under a connection: WebSocket, TCP or memory. */
export interface Transport {
  readonly kind: TransportKind;
  /** Address of the other side, for limits and logs. */
  readonly peer: string;
  /** Its port there, where there is one. */
  readonly peerPort?: number;
  /** INFO goes out as it is, then both sides begin TLS. */
  readonly tlsRequired?: boolean;
  /** Where it came in; told to the client in INFO. */
  readonly local?: { readonly host: string; readonly port: number };
  /** Bytes accepted by `send` and not yet given to the operating system. */
  readonly bufferedBytes: number;
  /** @param taken called when the frame's bytes may be used again; may be left out */
  send(frame: Buffer, taken?: () => void): void;
  /** Reads nothing more until {@link resume}, so that the other side has to wait. */
  pause(): void;
  resume(): void;
  /** Sends what waits, then closes. `at once` drops it. */
  close(code: number, reason: string, how: 'flush' | 'at once'): void;
}

/** What the broker gives to whoever brings a transport. */
export interface Connection {
  /** The client is authenticated and not yet gone. */
  readonly isReady: boolean;
  /** Bytes from the socket, cut anywhere. */
  receive(chunk: Buffer): void;
  /** It sent more than may be kept of somebody who is not authenticated. */
  refuseEarly(): void;
  /** The socket is gone. */
  lost(): void;
}

/** Whoever hears messages: a client's connection, or a part of this process. */
export interface Listener {
  /** Sends one message. @returns false when this subscription must not hear it */
  deliver(subscription: Subscription, op: PublishOp, from: Publisher): boolean;
  /** How traces of messages name it. */
  readonly traceAs: TracedListener;
  /** Would somebody outside of this process hear this subject through the subscription? */
  isHeard(subscription: Subscription, subject: string): boolean;
}

/** What is kept of a request that nobody heard. */
export type UnheardOp = Pick<PublishOp, 'subject' | 'said' | 'reply'>;

/** Holds a speaker until it is released. */
interface Brake {
  hold(): void;
  release(): void;
}

/** Whoever publishes. */
export interface Publisher {
  readonly identity: ConatIdentity | null;
  /** False for a client that said `echo: false`; does not change. */
  readonly hearsItself: boolean;
  /** Nobody heard a request of this client: tells it, if it asked to be told. */
  noResponders(op: UnheardOp): void;
  /** Makes it wait before it says more; null for who cannot wait. */
  readonly brake: Brake | null;
}

/** What the parts of one subscription of a rooted connection share. */
interface SubscriptionPart {
  /** In the client's own words. */
  readonly subject: string;
  readonly all: readonly Subscription[];
}

export interface Subscription {
  readonly client: Listener & Publisher;
  readonly sid: string;
  readonly subject: string;
  readonly tokens: readonly string[];
  readonly queue: string;
  filtered: boolean;
  delivered: number;
  /** Deliveries after which it ends; 0: none. */
  max: number;
  /** A rooted connection hears one subject of its own through several of the broker's. */
  readonly part: SubscriptionPart | null;
  /** The subject of the last delivery and its `MSG <subject> <sid> `, since they often repeat. */
  lastSubject: string;
  lastHead: Buffer | null;
}

/** A connection for who looks at the broker. */
export interface ConnectionView {
  readonly id: number;
  readonly transport: TransportKind;
  readonly address: string;
  readonly port: number;
  /** The identity; '' before it is known. */
  readonly identity: string;
  /** Its account; '' in the broker's own space. */
  readonly account: string;
  /** What the client says of itself. */
  readonly name: string;
  readonly lang: string;
  readonly version: string;
  readonly sinceMs: number;
  readonly lastActiveMs: number;
  /** Of the last PING; null before the first. */
  readonly roundTripMs: number | null;
  readonly pendingBytes: number;
  readonly messagesIn: number;
  readonly bytesIn: number;
  readonly messagesOut: number;
  readonly bytesOut: number;
  /** In the client's words. */
  readonly subscriptions: readonly string[];
}

/** A client as the broker sees it. */
export interface BrokerClient extends Connection, Listener, Publisher {
  readonly id: number;
  readonly nonce: string;
  readonly peer: string;
  readonly transport: Transport;
  /** It is ready, and said in CONNECT that it takes INFO at any time. */
  readonly takesInfo: boolean;
  /** Largest message that it may send; its account may allow less than the broker. */
  readonly payloadBytesMax: number;
  /** Bytes that this connection keeps: input that is not whole, output that was not taken. */
  readonly keptBytes: number;
  view(): ConnectionView;
  write(text: string): void;
  flush(): void;
  setPermissions(permissions: ConatPermissions): void;
  /** Says why (if there is something to say), sends what waits, and closes. */
  refuse(text: string | null, reason: CloseReason): void;
}

/** What a broker says of itself. */
export interface BrokerFacts {
  readonly id: string;
  readonly name: string;
  /** The nats-server that it is like. */
  readonly version: string;
  readonly runtime: string;
  readonly authRequired: boolean;
  readonly draining: boolean;
}

/** The broker as a client's connection sees it. */
export interface ConnectionHost {
  readonly limits: BrokerLimits;
  /** The first token of all subject spaces. */
  readonly spaceRoot: string;
  readonly metrics: BrokerMetrics;
  /** Time of the current tick: one look at the clock for many messages. */
  nowMs(): number;
  identify(request: ConnectRequest): Promise<ConatIdentity | null>;
  /** Where an identity's subjects are; null when there is no such place. */
  homeOf(identity: ConatIdentity): ConnectionHost | null;
  /** What is said when there are as many connections as there may be, or what it may do. */
  admit(client: BrokerClient, identity: ConatIdentity): IdentityRates | string;
  /** @param connectInfo the answer to CONNECT, for clients that know it */
  info(client: BrokerClient, connectInfo: boolean): string;
  subscribed(subscription: Subscription): void;
  /** Its `max` was set. */
  bounded(subscription: Subscription): void;
  /** @param linger what is on its way to it from elsewhere may still come */
  unsubscribed(subscription: Subscription, linger?: boolean): void;
  /** Calls back when all that the client said so far is known everywhere; at once without a pool. */
  settled(client: Publisher, done: () => void): void;
  /** Brings a message to all who hear its subject; a queue group hears it once. */
  route(from: Publisher, op: PublishOp): number;
  /** Begins the trace of a message; null when whoever it is handed to traces it. */
  trace(from: BrokerClient, op: PublishOp, request: TraceRequest, to: string): MessageTrace | null;
  /** As {@link route}, and tells what became of the message. */
  routeTraced(from: Publisher, op: PublishOp, trace: MessageTrace): number;
  sendTrace(trace: MessageTrace): void;
  subscriptionFor(client: BrokerClient, subject: string): Subscription | undefined;
  flushLater(client: BrokerClient): void;
  /** @param open its socket still sends what waits; {@link left} follows */
  closed(client: BrokerClient, reason: CloseReason, open: boolean): void;
  left(client: BrokerClient): void;
}

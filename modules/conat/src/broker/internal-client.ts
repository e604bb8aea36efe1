import type { ConatIdentity } from '../auth/identity.js';
import type { InterestListener } from './interest.js';
import type { HandedTrace, MessageTrace, TracedListener } from './message-trace.js';
import { encodeOp, type OutgoingBody } from './outgoing-op.js';
import type { PublishOp } from './parser.js';
import type { Listener, Publisher, Subscription, UnheardOp } from './ports.js';
import type { Match } from './sublist.js';
import { parseFilter } from './subjects.js';

/**
 * A message as a part of this process hears it. Subjects are binary strings (one char a byte), as
 * everywhere inside the broker. The buffers are the connection's own: copy what outlives the call.
 */
export interface InternalMessage {
  /** On the broker, e.g. `<root>.<id>.x` of a rooted connection's `x`. */
  readonly subject: string;
  /** On the broker; '' without. */
  readonly reply: string;
  /** The header block, `NATS/1.0…` with its final empty line; null without. */
  readonly headers: Buffer | null;
  readonly payload: Buffer;
  readonly from: ConatIdentity;
  /** The trace of the message, for who goes on with it ({@link InternalSubscribeOptions}). */
  readonly trace?: HandedTrace;
}

export interface InternalSubscribeOptions {
  /** It also hears messages that are only to be traced, each with its trace, and sends that on. */
  readonly traces?: boolean;
}

/** `false` leaves the message to others: it counts as not heard (503 when nobody else does). */
export type InternalHandler = (message: InternalMessage) => boolean | void;

/** A message of this process. */
export interface InternalPublish extends OutgoingBody {
  /** Whose listeners get it. */
  readonly to: string;
}

/** What the broker does for the clients inside the process. */
export interface InternalHost {
  match(subject: string): Match<Subscription>;
  /** Changes with every subscription that comes or goes. */
  readonly subscriptionsVersion: number;
  route(from: Publisher, op: PublishOp): number;
  deliver(match: Match<Subscription>, from: Publisher, op: PublishOp): number;
  subscribed(subscription: Subscription): void;
  unsubscribed(subscription: Subscription): void;
  /** Sends what waits for the end of the event loop's turn. */
  flush(): void;
  interest(subject: string): boolean;
  watchInterest(subject: string, listener: InterestListener): () => void;
}

/**
 * A client inside the broker's process: no protocol, no copies on the way in, no limits, every
 * right. JetStream and other services of the broker are built on it. See `Broker.internal`.
 */
export class InternalClient implements Listener, Publisher {
  readonly identity: ConatIdentity;
  readonly hearsItself = true;
  /** It does not wait; what is too much for a fabric is not taken ({@link publish} says 0). */
  readonly brake = null;
  /** Set while it is in {@link publish}, whose answer says how many heard it. */
  private saying = false;
  private readonly handlers = new Map<Subscription, InternalHandler>();
  private readonly tracing = new WeakSet<Subscription>();
  private lastSid = 0;
  private closed = false;

  constructor(
    private readonly host: InternalHost,
    name: string,
  ) {
    const all = { allow: ['>'] };
    this.identity = { name, permissions: { publish: all, subscribe: all, inboxes: 'all' } };
  }

  /**
   * Hears a subject (wildcards or not), as a member of `queue` unless that is ''. The handler is
   * called within the publisher's turn: it must be quick.
   * @returns a function that ends it
   */
  subscribe(
    subject: string,
    queue: string,
    handler: InternalHandler,
    options: InternalSubscribeOptions = {},
  ): () => void {
    const tokens = parseFilter(subject, 256);
    if (!tokens) throw new TypeError(`"${subject}" is not a subject`);
    if (this.closed) throw new Error('the internal client is closed');
    this.lastSid += 1;
    const subscription: Subscription = {
      client: this,
      sid: String(this.lastSid),
      subject,
      tokens,
      queue,
      filtered: false,
      delivered: 0,
      max: 0,
      part: null,
      lastSubject: '',
      lastHead: null,
    };
    this.handlers.set(subscription, handler);
    if (options.traces) this.tracing.add(subscription);
    this.host.subscribed(subscription);
    return () => {
      if (this.handlers.delete(subscription)) this.host.unsubscribed(subscription);
    };
  }

  /**
   * @returns how many heard it; a queue group counts once. With a fabric between processes: 1 when
   * it was handed over. That nobody heard a request is told later, as a client is told (status 503).
   */
  publish({ to, ...body }: InternalPublish): number {
    const { saying } = this;
    this.saying = true;
    try {
      return encodeOp(to, body, (op) => this.host.route(this, op));
    } finally {
      this.saying = saying;
    }
  }

  /**
   * Sends many messages to the listeners of one subject, in order: they are looked up once, and
   * again only when one of them went meanwhile.
   * @returns how many bodies somebody heard; it stops at the first that nobody did
   */
  publishBatch(to: string, bodies: Iterable<OutgoingBody>): number {
    const { host } = this;
    let version = host.subscriptionsVersion;
    let match = host.match(to);
    let heard = 0;
    for (const body of bodies) {
      if (version !== host.subscriptionsVersion) {
        version = host.subscriptionsVersion;
        match = host.match(to);
      }
      if (encodeOp(to, body, (op) => host.deliver(match, this, op)) === 0) break;
      heard += 1;
    }
    return heard;
  }

  /** What was published leaves now, not at the end of the event loop's turn. */
  flush(): void {
    this.host.flush();
  }

  /** Does a connected client of this process listen on this literal subject? */
  interest(subject: string): boolean {
    return this.host.interest(subject);
  }

  /**
   * Is told when {@link interest} in a literal subject begins and ends (not how it is now).
   * @returns a function that ends it
   */
  watchInterest(subject: string, listener: InterestListener): () => void {
    return this.host.watchInterest(subject, listener);
  }

  close(): void {
    this.closed = true;
    for (const subscription of this.handlers.keys()) this.host.unsubscribed(subscription);
    this.handlers.clear();
  }

  // The broker's side.

  get traceAs(): TracedListener {
    return { kind: 'system', id: 0, name: this.identity.name };
  }

  traces(subscription: Subscription): boolean {
    return this.tracing.has(subscription);
  }

  deliverTraced(
    subscription: Subscription,
    op: PublishOp,
    from: Publisher,
    trace: MessageTrace,
  ): boolean {
    return this.hand(subscription, op, from, trace.handOver());
  }

  deliver(subscription: Subscription, op: PublishOp, from: Publisher): boolean {
    return this.hand(subscription, op, from);
  }

  private hand(
    subscription: Subscription,
    op: PublishOp,
    from: Publisher,
    trace?: HandedTrace,
  ): boolean {
    const handler = this.handlers.get(subscription);
    if (!handler || !from.identity) return false;
    const { buffer, bodyStart } = op;
    const payloadStart = bodyStart + op.headerBytes;
    const taken = handler({
      subject: op.subject,
      reply: op.reply,
      headers: op.withHeaders ? buffer.subarray(bodyStart, payloadStart) : null,
      payload: buffer.subarray(payloadStart, bodyStart + op.totalBytes),
      from: from.identity,
      ...(trace && { trace }),
    });
    if (taken === false) return false;
    subscription.delivered += 1;
    return true;
  }

  isHeard(): boolean {
    return false;
  }

  noResponders({ subject, reply }: UnheardOp): void {
    if (this.saying) return;
    const { plain } = this.host.match(reply);
    const heard = plain.find(({ client }) => client === this);
    const handler = heard && this.handlers.get(heard);
    const headers = Buffer.from(`NATS/1.0 503\r\nNats-Subject: ${subject}\r\n\r\n`, 'latin1');
    const { identity: from } = this;
    handler?.({ subject: reply, reply: '', headers, payload: Buffer.alloc(0), from });
  }
}

import type { BrokerLimits } from '../broker/limits.js';
import type { PublishOp } from '../broker/parser.js';
import type { Listener, Publisher, Subscription } from '../broker/ports.js';
import type { Match } from '../broker/sublist.js';

/** The broker as its fabric sees it. */
export interface FabricHost {
  readonly limits: BrokerLimits;
  /** Who of this process hears a subject. */
  match(subject: string): Match<Subscription>;
  /** Brings a message to them; a queue group hears it once. @returns how many heard it */
  deliverTo(match: Match<Subscription>, from: Publisher, op: PublishOp): number;
  /** A message from outside for one subscription of this process. */
  deliverFromFabric(subscription: Subscription, from: Publisher, op: PublishOp): void;
  /** Adds to what INFO says to clients. */
  announce(fields: Readonly<Record<string, unknown>>): void;
}

/** Counters of a fabric that leads out of this process. */
export interface FabricStatus {
  readonly connected: boolean;
  /** Connections to the fabric now: the shared one, and those of clients without echo. */
  readonly links: number;
  readonly subscriptions: number;
  /** Bytes that wait for the fabric. */
  readonly bufferedBytes: number;
  readonly reconnects: number;
  /** Publications that were given up: the fabric was away for too long, or took too little. */
  readonly dropped: number;
  /** Times that a client was not read because the fabric took too little. */
  readonly held: number;
  /** Errors that the fabric told. */
  readonly errors: number;
}

/**
 * Port: what joins the brokers of a pool. A broker gives it every subscription and every
 * publication of its clients, after permissions and limits were looked at and in the broker's
 * subjects; it brings back what they hear.
 */
export abstract class Fabric {
  /** Null when nothing leads out of this process. */
  abstract readonly status: FabricStatus | null;

  /** Called once, by the broker that it is for. */
  abstract join(host: FabricHost): void;

  /** Resolves when it can be used. @throws CONAT_FABRIC_UNREACHABLE, CONAT_FABRIC_REFUSED */
  abstract start(): Promise<void>;

  /** Is there room for one more client of this kind? */
  abstract admits(client: Publisher): boolean;

  abstract subscribed(subscription: Subscription): void;

  /** `subscription.max` was set: it ends by itself. */
  abstract bounded(subscription: Subscription): void;

  /** @param linger what is on its way to it may still come, until {@link settled} */
  abstract unsubscribed(subscription: Subscription, linger: boolean): void;

  /**
   * @param match who of this process hears it, when the caller knows
   * @returns how many heard it, or 1 when it was handed over; 0: nobody hears it
   */
  abstract publish(from: Publisher, op: PublishOp, match?: Match<Subscription>): number;

  /** Calls back when all that this client said so far is known to the fabric. */
  abstract settled(client: Publisher, done: () => void): void;

  /** It will neither say nor hear anything any more. */
  abstract left(client: Publisher & Listener): void;

  /** Sends what waits (bounded), then leaves. */
  abstract close(): Promise<void>;
}

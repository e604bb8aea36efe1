/**
 * What goes into an account's engine and what comes out of it. The engine runs in a worker thread:
 * it is fed in batches, and what it says is let out after the batch is on disk, never before.
 * Subjects are binary strings (one char a byte), as everywhere inside the broker.
 */

/** A request to the API. */
export interface ApiInput {
  readonly kind: 'api';
  /** Behind the account's API prefix: `STREAM.CREATE.orders`. */
  readonly subject: string;
  /** Where the answer goes, on the broker; '' for nowhere. */
  readonly reply: string;
  readonly headers: Buffer | null;
  readonly payload: Buffer;
  /** Whoever asks may only read: the name of its identity. It pulls from its own consumers alone. */
  readonly reader?: string;
}

/**
 * In a consumer's metadata: the reader who made it. Others' consumers are not a reader's to pull
 * from, since that takes the next message from somebody.
 */
export const readerKey = '_rookery.reader';

/** A message on a subject that a stream listens on. */
export interface PublishInput {
  readonly kind: 'publish';
  readonly stream: string;
  /** Relative to the account. */
  readonly subject: string;
  readonly reply: string;
  readonly headers: Buffer | null;
  readonly payload: Buffer;
  /** It is traced: what becomes of it is to be told. */
  readonly trace?: PublishTrace;
}

export interface PublishTrace {
  /** On the broker: where the event goes. */
  readonly to: string;
  /** Nothing is stored. */
  readonly only: boolean;
  /** JSON of the event so far. */
  readonly event: Buffer;
}

/** An acknowledgement (`+ACK`, `-NAK …`, `+WPI`, `+NXT …`, `+TERM …`, or nothing). */
export interface AckInput {
  readonly kind: 'ack';
  /** Behind the account's prefix: `<stream>.<consumer>.<delivered>.<sseq>.<cseq>.<ns>.<pending>`. */
  readonly subject: string;
  readonly reply: string;
  readonly payload: Buffer;
}

/** A client answers a request for flow control. */
export interface FlowControlInput {
  readonly kind: 'flow-control';
  /** Behind the account's prefix: `<stream>.<consumer>.<id>`. */
  readonly subject: string;
}

/** Somebody began or ceased to listen on a subject that was asked for by `watch`. */
export interface InterestInput {
  readonly kind: 'interest';
  /** On the broker. */
  readonly subject: string;
  readonly present: boolean;
}

export type EngineInput = ApiInput | PublishInput | AckInput | FlowControlInput | InterestInput;

/** A message for whoever listens on `to`, who sees it as one on `shown`. */
export interface OutgoingMessage {
  /** On the broker: a reply subject, an inbox, a deliver subject. */
  readonly to: string;
  /** Relative to the account; '' when it is the subject that it goes to. */
  readonly shown: string;
  /** On the broker (an acknowledgement subject in the account's form), or ''. */
  readonly reply: string;
  readonly headers: Buffer | null;
  readonly payload: Buffer;
}

/** Where an engine says things. */
export abstract class Outbox {
  abstract send(message: OutgoingMessage): void;
  /** The relative subjects that a stream takes from now on; none ends it. */
  abstract listen(stream: string, subjects: readonly string[]): void;
  /** Asks to be told by {@link InterestInput}: at once how it is, then about each change. */
  abstract watch(subject: string): void;
  abstract unwatch(subject: string): void;
}

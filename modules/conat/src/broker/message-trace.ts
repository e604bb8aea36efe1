import type { ConatIdentity } from '../auth/identity.js';
import type { PublishOp } from './parser.js';
import { isLiteral, toBinary } from './subjects.js';
import { systemTime } from './system-time.js';

/**
 * Message tracing of nats-server (ADR-41 of NATS): a message with `Nats-Trace-Dest` brings an event
 * to that subject, which says where the message went; with `Nats-Trace-Only` it goes nowhere.
 * `traceparent` alone asks for nothing: no account has a destination of its own.
 */
const destinationKey = 'Nats-Trace-Dest';
const onlyKey = 'Nats-Trace-Only';
/** What a server writes in place of the destination once it has traced a message. */
const traceDisabled = 'trace disabled';
const destinationBytes = Buffer.from(`\r\n${destinationKey}:`);
const leastHeaderBytes = 'NATS/1.0\r\nNats-Trace-Dest:x\r\n\r\n'.length;

/** Kinds of connections, as nats-server numbers them. */
const kinds = { client: 0, system: 3 } as const;

/** How a trace names a listener. */
export interface TracedListener {
  readonly kind: keyof typeof kinds;
  readonly id: number;
  readonly name: string;
}

/** How far the pattern may move when this byte lies under its end (Horspool). */
const shifts = new Uint8Array(256).fill(destinationBytes.length);
for (let at = 0; at < destinationBytes.length - 1; at += 1) {
  shifts[destinationBytes[at]!] = destinationBytes.length - 1 - at;
}

/** Up to here the search below is quicker than Node's, which needs a buffer of its own. */
const shortHeaderBytes = 512;

/**
 * Looked at for each message with headers, so it is quick to say no: mostly in the read buffer
 * itself, at about every tenth byte.
 */
export function asksForTrace({
  headerBytes,
  buffer,
  bodyStart,
}: Pick<PublishOp, 'headerBytes' | 'buffer' | 'bodyStart'>): boolean {
  if (headerBytes < leastHeaderBytes) return false;
  const last = destinationBytes.length - 1;
  const end = bodyStart + headerBytes;
  if (headerBytes > shortHeaderBytes)
    return buffer.subarray(bodyStart, end).includes(destinationBytes);
  for (let at = bodyStart + last; at < end; at += shifts[buffer[at]!]!) {
    let back = last;
    while (back >= 0 && buffer[at - last + back] === destinationBytes[back]) back -= 1;
    if (back < 0) return true;
  }
  return false;
}

/** What is said of a subscription. */
interface TracedSubscription {
  readonly client: { readonly identity: ConatIdentity | null; readonly traceAs: TracedListener };
  readonly subject: string;
  readonly queue: string;
  /** In the words of a rooted client. */
  readonly part: { readonly subject: string } | null;
}

export interface TraceRequest {
  readonly destination: string;
  readonly only: boolean;
  readonly headers: Readonly<Record<string, string[]>>;
}

/** What the headers ask for; null when it is nothing, or was traced elsewhere. */
export function traceRequest({ headerBytes, buffer, bodyStart }: PublishOp): TraceRequest | null {
  const text = buffer.toString('latin1', bodyStart, bodyStart + headerBytes);
  const headers: Record<string, string[]> = Object.create(null) as Record<string, string[]>;
  for (const line of text.split('\r\n').slice(1)) {
    const colon = line.indexOf(':');
    if (colon < 0) break;
    const value = line.slice(colon + 1).replace(/^[ \t]+|[ \t]+$/g, '');
    if (colon > 0 && value !== '') (headers[line.slice(0, colon)] ??= []).push(value);
  }
  const destination = headers[destinationKey]?.[0];
  if (destination === undefined || destination === traceDisabled) return null;
  const only = /^(1|true|on)$/i.test(headers[onlyKey]?.[0] ?? '');
  return { destination, only, headers };
}

/** Whether events can be sent there at all. */
export const isTraceDestination = ({ destination }: TraceRequest): boolean =>
  isLiteral(destination);

/** What is put into the event of a trace by whoever traces on: a stream's engine, in its thread. */
export interface HandedTrace {
  /** On the broker. */
  readonly to: string;
  readonly only: boolean;
  /** JSON of what is known so far; entries are to be added to its `events`. */
  readonly event: Buffer;
}

/** The event of one message while it is on its way. */
export class MessageTrace {
  readonly only: boolean;
  /** Somebody else sends the event. */
  handedOver = false;
  private readonly ingress: Record<string, unknown>;
  private readonly events: Record<string, unknown>[];

  /** @param to on the broker */
  constructor(
    readonly to: string,
    private readonly asker: ConatIdentity,
    private readonly request: TraceRequest,
    private readonly bytes: number,
    from: TracedListener,
    subject: string,
    private readonly server: () => Record<string, unknown>,
  ) {
    this.only = request.only;
    this.ingress = {
      ...entry('in'),
      ...shown(from),
      acc: asker.rootedIn ?? asker.account ?? '$G',
      subj: subject,
    };
    this.events = [this.ingress];
  }

  refused(error: string): void {
    this.ingress.error = error;
  }

  /** @param error why it was not delivered */
  egress({ client, subject, queue, part }: TracedSubscription, error?: string): void {
    const isOwn =
      this.asker.rootedIn === undefined || client.identity?.rootedIn === this.asker.rootedIn;
    const named = isOwn
      ? { ...shown(client.traceAs), sub: part && this.asker.rootedIn ? part.subject : subject }
      : { kind: kinds[client.traceAs.kind], cid: 0 };
    this.events.push({
      ...entry('eg'),
      ...named,
      ...(isOwn && queue !== '' && { queue }),
      ...(error !== undefined && { error }),
    });
  }

  handOver(): HandedTrace {
    this.handedOver = true;
    return { to: this.to, only: this.only, event: this.encode() };
  }

  encode(): Buffer {
    const { request, bytes, events } = this;
    const event = {
      server: this.server(),
      request: { header: request.headers, msgsize: bytes },
      events,
    };
    // Texts are binary strings here, one char a byte, and need not be UTF-8.
    return Buffer.from(Buffer.from(JSON.stringify(event), 'latin1').toString('utf8'));
  }
}

const entry = (type: string): Record<string, unknown> => ({ type, ts: systemTime() });

const shown = ({ kind, id, name }: TracedListener): Record<string, unknown> => ({
  kind: kinds[kind],
  cid: id,
  ...(name !== '' && { name: toBinary(name) }),
});

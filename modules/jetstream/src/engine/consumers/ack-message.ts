import { parseDuration } from '@rookery/conat/contract';

/** What a client says of a message that it got. */
export type AckMessage =
  | { readonly kind: 'ack' | 'progress' | 'unknown' }
  | { readonly kind: 'nak'; /** -1: at once */ readonly delayMs: number }
  | { readonly kind: 'next'; readonly request: Buffer }
  | { readonly kind: 'term'; readonly reason: string };

/** Where an acknowledgement's subject says that its message was. */
export interface AckPlace {
  readonly stream: string;
  readonly consumer: string;
  readonly deliveries: number;
  readonly streamSeq: number;
  readonly consumerSeq: number;
}

export function parseAck(payload: Buffer): AckMessage {
  if (payload.length === 0) return { kind: 'ack' };
  const text = payload.toString('latin1');
  if (text === '+ACK' || text === '+OK') return { kind: 'ack' };
  if (text.startsWith('+NXT')) return { kind: 'next', request: payload.subarray(4) };
  if (text.startsWith('-NAK')) return { kind: 'nak', delayMs: nakDelay(text.slice(4).trim()) };
  if (text === '+WPI') return { kind: 'progress' };
  if (text.startsWith('+TERM')) return { kind: 'term', reason: text.slice(5).trim() };
  return { kind: 'unknown' };
}

/** What cannot be read as a delay is a plain refusal, as with a server. */
function nakDelay(argument: string): number {
  if (argument === '') return -1;
  if (argument.startsWith('{')) {
    try {
      const { delay } = JSON.parse(argument) as { delay?: unknown };
      return typeof delay === 'number' && delay >= 0 ? delay / 1e6 : -1;
    } catch {
      return -1;
    }
  }
  const ns = parseDuration(argument);
  return ns === null || ns < 0 ? -1 : ns / 1e6;
}

/** @param subject `<stream>.<consumer>.<deliveries>.<sseq>.<cseq>.<ns>.<pending>` */
export function parsePlace(subject: string): AckPlace | null {
  const tokens = subject.split('.');
  if (tokens.length < 7) return null;
  const [stream, consumer, ...numbers] = tokens as [string, string, ...string[]];
  const [deliveries, streamSeq, consumerSeq] = numbers
    .slice(0, 3)
    .map((digits) => (/^\d{1,15}$/.test(digits) ? Number(digits) : NaN)) as [
    number,
    number,
    number,
  ];
  if ([deliveries, streamSeq, consumerSeq].some(Number.isNaN)) return null;
  return { stream, consumer, deliveries, streamSeq, consumerSeq };
}

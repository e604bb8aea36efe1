import { z } from 'zod';
import { statusHeaders, withHeaders } from '../headers.js';
import { parseJson } from '../json.js';
import { withoutNulls } from '../streams/request.js';

/** What a client asks of a pull consumer; durations are nanoseconds. */
const PullBody = z.object({
  batch: z.int().default(0),
  expires: z.int().min(0).default(0),
  max_bytes: z.int().min(0).default(0),
  no_wait: z.boolean().default(false),
  idle_heartbeat: z.int().min(0).default(0),
  min_pending: z.int().default(0),
  min_ack_pending: z.int().default(0),
  id: z.string().default(''),
  group: z.string().default(''),
  priority: z.int().default(0),
});

/** A request that waits for messages. */
export interface PullRequest {
  readonly reply: string;
  /** Messages still to come. */
  left: number;
  /** Bytes still to come; 0 for no limit. */
  bytesLeft: number;
  readonly limitsBytes: boolean;
  readonly noWait: boolean;
  delivered: number;
  /** Milliseconds since the epoch; Infinity for never. */
  readonly expiresMs: number;
  readonly heartbeatMs: number;
  nextHeartbeatMs: number;
  /** True while the outbox tells of its reply subject. */
  watched: boolean;
}

export interface ParsedPull {
  readonly batch: number;
  readonly expiresNs: number;
  readonly maxBytes: number;
  readonly noWait: boolean;
  readonly heartbeatNs: number;
  /** What a client of a priority group sends; none is supported. */
  readonly priority: 'none' | 'overflow' | 'pinned' | 'range';
}

const one: ParsedPull = {
  batch: 1,
  expiresNs: 0,
  maxBytes: 0,
  noWait: false,
  heartbeatNs: 0,
  priority: 'none',
};

/** @returns the request, or why it is none */
export function parsePull(payload: Buffer): ParsedPull | string {
  const text = payload.toString('utf8').trim();
  if (text === '') return one;
  if (!text.startsWith('{')) {
    return /^[+-]?\d{1,15}$/.test(text) ? { ...one, batch: atLeastOne(Number(text)) } : one;
  }
  let json: unknown;
  try {
    json = withoutNulls(parseJson(payload));
  } catch {
    return 'invalid JSON';
  }
  const parsed = PullBody.safeParse(json);
  if (!parsed.success) return 'invalid JSON';
  const { data } = parsed;
  if (data.idle_heartbeat > 0 && data.idle_heartbeat * 2 > data.expires) {
    return 'heartbeat value too large';
  }
  return {
    batch: atLeastOne(data.batch),
    expiresNs: data.expires,
    maxBytes: data.max_bytes,
    noWait: data.no_wait,
    heartbeatNs: data.idle_heartbeat,
    priority: priorityOf(data),
  };
}

/** Whoever asks for none, or fewer, gets one message as well. */
const atLeastOne = (batch: number): number => Math.max(1, batch);

function priorityOf(body: z.output<typeof PullBody>): ParsedPull['priority'] {
  if (body.min_pending !== 0 || body.min_ack_pending !== 0) return 'overflow';
  if (body.id !== '') return 'pinned';
  return body.priority < 0 || body.priority > 9 ? 'range' : 'none';
}

/** Headers of a status that ends a request before it got all it asked for. */
export function status(
  code: number,
  text: string,
  left?: { left: number; bytesLeft: number },
): Buffer {
  const headers = statusHeaders(`${code} ${text}`);
  return left
    ? withHeaders(headers, {
        'Nats-Pending-Messages': String(left.left),
        'Nats-Pending-Bytes': String(left.bytesLeft),
      })
    : headers;
}

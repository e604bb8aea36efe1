import type { JetStreamApiError } from '../api-error.js';
import type { PublishInput, PublishTrace } from '../engine-io.js';
import { headerText, headerValue, withHeaders, withoutHeader } from '../headers.js';
import { encodeJson, parseJson } from '../json.js';
import { formatTime } from '@rookery/conat/contract';

/** What became of a message at a stream, in the words of nats-server's traces. */
export interface TraceOutcome {
  readonly nointerest?: true;
  readonly error?: string;
}

const destinationKey = 'Nats-Trace-Dest';

/** What is stored was traced once: its deliveries are not. */
export function whenTraced(input: PublishInput, { only }: PublishTrace): PublishInput {
  if (only || !input.headers) return input;
  const rest = withoutHeader(input.headers, destinationKey);
  return { ...input, headers: withHeaders(rest, { [destinationKey]: 'trace disabled' }) };
}

/** Some refusals have other words in a trace than in an answer, as in nats-server. */
export function traceError({ apiError }: JetStreamApiError, { headers }: PublishInput): string {
  const { description } = apiError;
  const last = /^wrong last sequence: (\d+)$/.exec(description)?.[1];
  if (last !== undefined) {
    const text = headerText(headers);
    const ofSubject = headerValue(text, 'Nats-Expected-Last-Subject-Sequence');
    return ofSubject !== undefined
      ? `last sequence by subject mismatch: ${ofSubject} vs ${last}`
      : `last sequence mismatch: ${headerValue(text, 'Nats-Expected-Last-Sequence')} vs ${last}`;
  }
  return description.endsWith('exceeds maximum allowed') ? 'maximum payload exceeded' : description;
}

/** The event of a message, with what its stream has to say. */
export function tracedBy(
  stream: string,
  subject: string,
  outcome: TraceOutcome,
  trace: PublishTrace,
  nowNs: bigint,
): Buffer {
  const event = parseJson(trace.event) as { events: unknown[] };
  event.events.push({
    type: 'js',
    ts: formatTime(nowNs),
    stream,
    // As nats-server: where it was to be stored is said when it passed.
    ...(outcome.error === undefined && { subject }),
    ...outcome,
  });
  return encodeJson(event);
}

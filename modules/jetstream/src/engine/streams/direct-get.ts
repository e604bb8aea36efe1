import { z } from 'zod';
import type { StoredMessage, StreamStore } from '../account-store.js';
import type { ApiInput, Outbox } from '../engine-io.js';
import { statusHeaders, withHeaders } from '../headers.js';
import { JetStreamApiError } from '../api-error.js';
import { batchBytesMax } from '../limits.js';
import { formatTime, parseTime } from '@rookery/conat/contract';
import { readRequest } from './request.js';
import type { Stream } from './stream.js';

const multiResponsesMax = 1024;

const whole = z.number().refine(Number.isInteger, 'not an integer').default(0);
const count = whole.refine((value) => value >= 0, 'negative');

export const MessageGetRequest = z.strictObject({
  seq: count,
  last_by_subj: z.string().default(''),
  next_by_subj: z.string().default(''),
  batch: whole,
  max_bytes: whole,
  start_time: z.string().transform(timeOf).optional(),
  multi_last: z.array(z.string()).default([]),
  up_to_seq: count,
  up_to_time: z.string().transform(timeOf).optional(),
  no_hdr: z.boolean().default(false),
});
export type MessageGetRequest = z.output<typeof MessageGetRequest>;
/** Here a server does not mind keys that it does not know. */
const DirectGetRequest = MessageGetRequest.strip();
const noRequest = MessageGetRequest.parse({});

function timeOf(text: string, context: { addIssue: (message: string) => void }): bigint {
  const ns = parseTime(text);
  if (ns === null) context.addIssue('not a time');
  return ns ?? 0n;
}

/** The first message at or after a sequence. */
export function nextMessage(
  store: StreamStore,
  fromSeq: number,
  filter: string,
): StoredMessage | null {
  for (const message of store.read(fromSeq, filter === '' ? null : [filter])) return message;
  return null;
}

/** Reads messages without JSON around them: the way of KV. */
export class DirectGet {
  constructor(private readonly outbox: Outbox) {}

  /** @param key the subject that came as part of the request's subject, or null */
  handle(stream: Stream, input: ApiInput, key: string | null): void {
    if (input.reply === '') return;
    const request = this.read(input, key);
    if (typeof request === 'string') return this.status(input.reply, request);
    if (request.multi_last.length > 0) return this.multi(stream, request, input.reply);
    if (request.batch > 0) return this.batch(stream, request, input.reply);
    const message = findOne(stream, request);
    if (!message) return this.status(input.reply, '404 Message Not Found');
    const headers = request.no_hdr
      ? null
      : withHeaders(message.headers, described(stream, message));
    this.send(input.reply, headers, message.payload);
  }

  /** @returns the status that refuses it when it is not one */
  private read(input: ApiInput, key: string | null): MessageGetRequest | string {
    if (input.payload.length === 0) {
      if (key === null) return '408 Empty Request';
      return key === '' ? '408 Bad Request' : { ...noRequest, last_by_subj: key };
    }
    let request: MessageGetRequest;
    try {
      request = readRequest(DirectGetRequest, input);
    } catch (error) {
      if (error instanceof JetStreamApiError) return '408 Malformed Request';
      throw error;
    }
    if (key === null) return refusal(request) ?? request;
    const { no_hdr: _noHeaders, max_bytes: _maxBytes, ...rest } = request;
    if (key === '' || !isNothing(rest) || rest.up_to_seq !== 0 || rest.batch !== 0) {
      return '408 Bad Request';
    }
    return { ...request, last_by_subj: key };
  }

  private batch(stream: Stream, request: MessageGetRequest, reply: string): void {
    const { store } = stream;
    const filter = request.next_by_subj;
    const from = startOf(store, request);
    let pending = store.count(from, filter === '' ? null : [filter]);
    let lastSeq = 0;
    let sent = 0;
    let bytes = 0;
    for (const message of store.read(from, filter === '' ? null : [filter])) {
      pending = Math.max(0, pending - 1);
      const headers = withHeaders(message.headers, {
        ...described(stream, message),
        'Nats-Num-Pending': String(pending),
        'Nats-Last-Sequence': String(lastSeq),
      });
      lastSeq = message.seq;
      this.send(reply, request.no_hdr ? null : headers, message.payload);
      sent += 1;
      bytes += sizeOf(message);
      if (sent >= request.batch || bytes >= allowedBytes(request)) break;
    }
    if (sent === 0) return this.status(reply, '404 Message Not Found');
    this.endOfBatch(reply, pending, lastSeq);
  }

  private multi(stream: Stream, request: MessageGetRequest, reply: string): void {
    const { store } = stream;
    let upTo = request.up_to_seq;
    if (request.up_to_time !== undefined) {
      upTo = store.seqAtTime(request.up_to_time) - 1;
      if (upTo < store.state.firstSeq) return this.status(reply, '404 No Results');
    }
    if (upTo === 0) upTo = store.state.lastSeq;
    const seqs = lastUpTo(stream, request.multi_last, upTo);
    if (seqs.length > multiResponsesMax) return this.status(reply, '413 Too Many Results');
    if (seqs.length === 0) return this.status(reply, '404 No Results');
    let pending = seqs.length;
    let lastSeq = 0;
    let sent = 0;
    let bytes = 0;
    for (const seq of seqs) {
      pending -= 1;
      const message = seq < request.seq ? null : store.get(seq);
      if (!message) continue;
      const headers = withHeaders(message.headers, {
        ...described(stream, message),
        'Nats-Num-Pending': String(pending),
        'Nats-Last-Sequence': String(lastSeq),
      });
      lastSeq = seq;
      this.send(reply, headers, message.payload);
      sent += 1;
      bytes += sizeOf(message);
      if (bytes >= allowedBytes(request) || sent === request.batch) break;
    }
    this.endOfBatch(reply, pending, lastSeq, upTo);
  }

  private endOfBatch(reply: string, pending: number, lastSeq: number, upTo?: number): void {
    const headers = withHeaders(statusHeaders('204 EOB'), {
      'Nats-Num-Pending': String(pending),
      'Nats-Last-Sequence': String(lastSeq),
      ...(upTo === undefined ? {} : { 'Nats-UpTo-Sequence': String(upTo) }),
    });
    this.send(reply, headers, Buffer.alloc(0));
  }

  private status(reply: string, status: string): void {
    this.send(reply, statusHeaders(status), Buffer.alloc(0));
  }

  private send(to: string, headers: Buffer | null, payload: Buffer): void {
    this.outbox.send({ to, shown: '', reply: '', headers, payload });
  }
}

const allowedBytes = ({ max_bytes: asked }: MessageGetRequest): number =>
  asked > 0 ? Math.min(asked, batchBytesMax) : batchBytesMax;

const sizeOf = (message: StoredMessage): number =>
  message.subject.length + (message.headers?.length ?? 0) + message.payload.length;

const described = (stream: Stream, message: StoredMessage): Record<string, string> => ({
  'Nats-Stream': stream.name,
  'Nats-Subject': message.subject,
  'Nats-Sequence': String(message.seq),
  'Nats-Time-Stamp': formatTime(message.timeNs),
});

const startOf = (store: StreamStore, request: MessageGetRequest): number =>
  request.start_time === undefined ? request.seq : store.seqAtTime(request.start_time);

function findOne({ store }: Stream, request: MessageGetRequest): StoredMessage | null {
  const from = startOf(store, request);
  if (request.next_by_subj !== '') return nextMessage(store, from, request.next_by_subj);
  return from > 0 ? store.get(from) : store.last(request.last_by_subj);
}

/** The newest message of each subject, none of them after `upTo`. */
function lastUpTo({ store }: Stream, filters: readonly string[], upTo: number): number[] {
  if (upTo >= store.state.lastSeq) return store.lastPerSubject(filters);
  const seqs = new Set<number>();
  for (const filter of filters) {
    for (const { subject, firstSeq, lastSeq } of store.subjects(filter)) {
      if (firstSeq > upTo) continue;
      const seq = lastSeq <= upTo ? lastSeq : store.last(subject, upTo)?.seq;
      if (seq !== undefined) seqs.add(seq);
    }
  }
  return [...seqs].sort((a, b) => a - b);
}

type Wanted = Omit<MessageGetRequest, 'no_hdr' | 'max_bytes'>;

const isNothing = (request: Wanted): boolean =>
  request.seq === 0 &&
  request.last_by_subj === '' &&
  request.next_by_subj === '' &&
  request.multi_last.length === 0 &&
  request.start_time === undefined &&
  request.up_to_time === undefined;

function refusal(request: MessageGetRequest): string | null {
  const {
    seq,
    last_by_subj: last,
    next_by_subj: next,
    start_time: start,
    multi_last: multi,
  } = request;
  const isEmpty =
    seq === 0 && last === '' && next === '' && multi.length === 0 && start === undefined;
  if (isEmpty) return '408 Empty Request';
  const conflict =
    (seq > 0 && (last !== '' || start !== undefined)) ||
    (last !== '' &&
      (start !== undefined || next !== '' || request.batch > 0 || multi.length > 0)) ||
    (next !== '' && multi.length > 0) ||
    (request.up_to_seq > 0 && request.up_to_time !== undefined);
  return conflict ? '408 Bad Request' : null;
}

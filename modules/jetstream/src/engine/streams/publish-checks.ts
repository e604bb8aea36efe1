import type { PublishInput } from '../engine-io.js';
import { headerValue } from '../headers.js';
import { jsErrors } from '../js-errors.js';
import { hasWildcards, isValidSubject } from '../subject-match.js';
import { parseDuration } from '@rookery/conat/contract';
import { storedBytes, type Stream } from './stream.js';

const headerBytesMax = 0xffff;
const nsPerSecond = 1_000_000_000;
/** As good as for ever, and still a time. */
const ttlSecondsMax = 10_000_000_000;

/** What a message's headers ask for, once they are found to be allowed. */
export interface PublishPlan {
  readonly msgId: string;
  readonly rollup: 'none' | 'sub' | 'all';
  /** Seconds; -1 never expires, 0 has no TTL. */
  readonly ttlSeconds: number;
}

export const plainPlan: PublishPlan = { msgId: '', rollup: 'none', ttlSeconds: 0 };

/** @throws JetStreamApiError */
export function checkSize({ config }: Stream, headers: Buffer | null, payload: Buffer): void {
  const { max_msg_size: max } = config;
  if (max >= 0 && (headers?.length ?? 0) + payload.length > max) {
    throw jsErrors.messageExceedsMaximum();
  }
  if ((headers?.length ?? 0) > headerBytesMax) throw jsErrors.headerExceedsMaximum();
}

/** Ways to publish that belong to features that are off. @throws JetStreamApiError */
export function refuseBatches({ reply }: PublishInput, headers: string): void {
  if (reply.endsWith('.$FI')) throw jsErrors.batchPublishDisabled();
  if (headerValue(headers, 'Nats-Batch-Id')) throw jsErrors.atomicPublishDisabled();
}

/** @throws JetStreamApiError */
export function checkExpectations(stream: Stream, subject: string, headers: string): void {
  const increment = headerValue(headers, 'Nats-Incr');
  if (increment) {
    if (!/^[+-]?\d+$/.test(increment)) throw jsErrors.counterInvalid();
    throw jsErrors.countersDisabled();
  }
  const expectedStream = headerValue(headers, 'Nats-Expected-Stream');
  if (expectedStream && expectedStream !== stream.name) throw jsErrors.streamNotMatch();
  const ttl = headerValue(headers, 'Nats-TTL');
  if (ttl && !stream.config.allow_msg_ttl && parseTtl(ttl)) throw jsErrors.ttlDisabled();
  checkExpectedSequences(stream, subject, headers);
  checkSchedules(subject, headers);
  if (headerValue(headers, 'Nats-Stream-Source')) throw jsErrors.sourceHeaderNotAllowed();
}

function checkExpectedSequences(stream: Stream, subject: string, headers: string): void {
  const ofSubject = headerValue(headers, 'Nats-Expected-Last-Subject-Sequence');
  const other = headerValue(headers, 'Nats-Expected-Last-Subject-Sequence-Subject');
  if (ofSubject) {
    const last = stream.lastSeqOf(other || subject);
    if (last !== parseCount(ofSubject)) throw jsErrors.wrongLastSequence(last);
  } else if (other) {
    throw jsErrors.expectedSubjectSeqMissing();
  }
  const ofStream = headerValue(headers, 'Nats-Expected-Last-Sequence');
  const { lastSeq } = stream.store.state;
  if (ofStream && lastSeq !== parseCount(ofStream)) throw jsErrors.wrongLastSequence(lastSeq);
}

function checkSchedules(subject: string, headers: string): void {
  if (headerValue(headers, 'Nats-Schedule')) throw jsErrors.schedulesDisabled();
  const next = headerValue(headers, 'Nats-Schedule-Next');
  const scheduler = headerValue(headers, 'Nats-Scheduler');
  if (!next) {
    if (scheduler) throw jsErrors.schedulerInvalid();
    return;
  }
  const isSubject = scheduler && isValidSubject(scheduler) && !hasWildcards(scheduler);
  if (next !== 'purge' || !isSubject || scheduler === subject) throw jsErrors.schedulerInvalid();
  throw jsErrors.schedulesDisabled();
}

/** @throws JetStreamApiError */
export function planOf(stream: Stream, headers: string): PublishPlan {
  const lastMsgId = headerValue(headers, 'Nats-Expected-Last-Msg-Id');
  if (lastMsgId && lastMsgId !== stream.lastMsgId) throw jsErrors.wrongLastMsgId(stream.lastMsgId);
  const ttl = headerValue(headers, 'Nats-TTL');
  return {
    msgId: headerValue(headers, 'Nats-Msg-Id') ?? '',
    rollup: rollupOf(stream, headers),
    ttlSeconds: ttl ? ttlOf(ttl) : 0,
  };
}

function rollupOf({ config }: Stream, headers: string): PublishPlan['rollup'] {
  const rollup = headerValue(headers, 'Nats-Rollup')?.toLowerCase();
  if (!rollup) return 'none';
  if (!config.allow_rollup_hdrs || config.deny_purge) {
    throw jsErrors.rollupFailed('rollup not permitted');
  }
  if (rollup !== 'sub' && rollup !== 'all') {
    throw jsErrors.rollupFailed(`rollup value invalid: "${rollup}"`);
  }
  return rollup;
}

function ttlOf(text: string): number {
  const seconds = parseTtl(text);
  if (seconds === null) throw jsErrors.ttlInvalid();
  return seconds;
}

/** Seconds, or a duration of at least one; -1 for `never`; null for what is neither. */
export function parseTtl(text: string): number | null {
  if (text.toLowerCase() === 'never') return -1;
  const ns = parseDuration(text);
  if (ns !== null && ns < nsPerSecond) return null;
  if (ns === null && !/^\d+$/.test(text)) return null;
  return Math.min(ns === null ? Number(text) : Math.floor(ns / nsPerSecond), ttlSecondsMax);
}

/** A count, or what no sequence is. */
const parseCount = (text: string): number => (/^\d+$/.test(text) ? Number(text) : -1);

/**
 * Limits of a stream that discards the new, not the old. A message that replaces one of its
 * subject is let in although the stream is full.
 * @throws JetStreamApiError
 */
export function checkRoom(
  stream: Stream,
  { subject, payload }: PublishInput,
  headers: Buffer | null,
  isRollup: boolean,
): void {
  const { config, store } = stream;
  if (config.discard !== 'new') return;
  const perSubject = config.max_msgs_per_subject;
  const subjectIsFull = perSubject > 0 && stream.countOf(subject) >= perSubject;
  if (subjectIsFull && config.discard_new_per_subject && !isRollup) {
    throw jsErrors.storeFailed('maximum messages per subject exceeded');
  }
  if (config.max_msgs > 0 && store.state.messages >= config.max_msgs && !subjectIsFull) {
    throw jsErrors.storeFailed('maximum messages exceeded');
  }
  const bytes = storedBytes(subject, headers, payload);
  if (config.max_bytes <= 0 || store.state.bytes + bytes <= config.max_bytes) return;
  const [first] = subjectIsFull ? store.subjects(subject) : [];
  const oldest = first ? store.get(first.firstSeq) : null;
  const freed = oldest ? storedBytes(oldest.subject, oldest.headers, oldest.payload) : 0;
  if (!oldest || freed < bytes) throw jsErrors.storeFailed('maximum bytes exceeded');
}

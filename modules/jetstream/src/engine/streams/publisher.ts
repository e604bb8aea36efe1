import { JetStreamApiError } from '../api-error.js';
import type { Outbox, PublishInput } from '../engine-io.js';
import {
  headerText,
  headerValue,
  statusHeaders,
  withHeaders,
  withoutHeader,
  withoutStatus,
} from '../headers.js';
import { jsErrors } from '../js-errors.js';
import { encodeJson } from '../json.js';
import type { ConsumerSet } from '../parts.js';
import type { AccountQuota } from '../quota.js';
import { nsToMs } from '@rookery/conat/contract';
import {
  checkExpectations,
  checkRoom,
  checkSize,
  planOf,
  plainPlan,
  refuseBatches,
  type PublishPlan,
} from './publish-checks.js';
import { storedBytes, type Stream } from './stream.js';
import { traceError, tracedBy, whenTraced, type TraceOutcome } from './publish-trace.js';

const nsPerSecond = 1_000_000_000;

/** Stores messages and acknowledges them. */
export class Publisher {
  constructor(
    private readonly consumers: ConsumerSet,
    private readonly outbox: Outbox,
    private readonly nowNs: () => bigint,
    private readonly quota: AccountQuota,
  ) {}

  publish(stream: Stream | undefined, input: PublishInput): void {
    // It went while the message was on its way.
    if (!stream) return this.send(input.reply, Buffer.alloc(0), statusHeaders('503'));
    const { trace } = input;
    const reply = stream.config.no_ack || trace?.only ? '' : input.reply;
    let outcome: TraceOutcome = {};
    try {
      outcome = this.store(stream, trace ? whenTraced(input, trace) : input, reply);
    } catch (error) {
      if (!(error instanceof JetStreamApiError)) throw error;
      this.refuse(stream.name, reply, error);
      outcome = { error: traceError(error, input) };
    }
    if (trace)
      this.send(trace.to, tracedBy(stream.name, input.subject, outcome, trace, this.nowNs()));
  }

  refuse(stream: string, reply: string, error: JetStreamApiError): void {
    this.send(reply, encodeJson({ error: error.apiError, stream, seq: 0 }));
  }

  /** Stores a message of the stream's own: the marker of a deletion. */
  mark(stream: Stream, subject: string, headers: Buffer, plan: PublishPlan): void {
    const seq = this.append(stream, subject, headers, Buffer.alloc(0), plan);
    this.consumers.appended(stream, seq, subject);
  }

  private append(
    stream: Stream,
    subject: string,
    headers: Buffer | null,
    payload: Buffer,
    plan: PublishPlan,
  ): number {
    const { store, config } = stream;
    const timeNs = this.timeFor(stream);
    const expires = plan.ttlSeconds > 0 ? nsToMs(timeNs) + plan.ttlSeconds * 1_000 : undefined;
    const seq = store.append({
      subject,
      timeNs,
      headers,
      payload,
      ...(expires === undefined ? {} : { expiresAtMs: expires }),
    });
    this.quota.stored(stream, storedBytes(subject, headers, payload));
    stream.lastMsgId = plan.msgId;
    if (plan.msgId !== '') stream.ids.add(plan.msgId, seq, timeNs);
    if (config.max_msgs_per_subject > 0) stream.enforceSubjectLimit(subject);
    stream.enforceLimits();
    if (plan.rollup === 'sub') stream.purge({ filter: subject, keep: 1 });
    if (plan.rollup === 'all') stream.purge({ keep: 1 });
    stream.stored(timeNs);
    return seq;
  }

  private store(stream: Stream, input: PublishInput, reply: string): TraceOutcome {
    const { config } = stream;
    if (config.sealed) throw jsErrors.streamSealed();
    const only = input.trace?.only ?? false;
    let headers = withoutStatus(input.headers);
    checkSize(stream, headers, input.payload);
    const text = headerText(headers);
    refuseBatches(input, text);
    let plan = plainPlan;
    if (text.includes('\r\nNats-')) {
      checkExpectations(stream, input.subject, text);
      const duplicate = this.duplicateOf(stream, text);
      if (duplicate > 0) {
        this.acknowledge(stream, reply, duplicate, ',"duplicate":true');
        return { error: 'msgid is duplicate' };
      }
      plan = planOf(stream, text);
    }
    if (config.retention === 'interest' && !this.isWanted(stream, input.subject)) {
      if (!only) this.acknowledge(stream, reply, this.skip(stream, input.subject, plan));
      return { nointerest: true };
    }
    [headers, plan] = withLeastTtl(stream, headers, plan);
    const bytes = storedBytes(input.subject, headers, input.payload);
    this.quota.checkRoom(stream, bytes);
    checkRoom(stream, input, headers, plan.rollup !== 'none');
    if (only) return {};
    const seq = this.append(stream, input.subject, headers, input.payload, plan);
    this.acknowledge(stream, reply, seq);
    this.consumers.appended(stream, seq, input.subject);
    return {};
  }

  private duplicateOf(stream: Stream, headers: string): number {
    const id = headerValue(headers, 'Nats-Msg-Id');
    return id ? stream.ids.find(id, this.nowNs()) : 0;
  }

  private isWanted(stream: Stream, subject: string): boolean {
    return this.consumers.needs(stream, stream.store.state.lastSeq + 1, subject);
  }

  /** Nobody wants it: it gets its sequence and is gone, and takes no other's place. */
  private skip(stream: Stream, subject: string, plan: PublishPlan): number {
    const timeNs = this.timeFor(stream);
    const message = { subject, timeNs, headers: null, payload: Buffer.alloc(0) };
    const seq = stream.store.append(message);
    stream.store.remove(seq);
    stream.lastMsgId = plan.msgId;
    if (plan.msgId !== '') stream.ids.add(plan.msgId, seq, timeNs);
    if (plan.rollup === 'sub') stream.purge({ filter: subject });
    if (plan.rollup === 'all') stream.purge({});
    return seq;
  }

  /** Searches by time need times that never go back. */
  private timeFor({ store }: Stream): bigint {
    const now = this.nowNs();
    return now > store.state.lastTimeNs ? now : store.state.lastTimeNs;
  }

  private acknowledge({ ackStart }: Stream, reply: string, seq: number, more = ''): void {
    if (reply !== '') this.send(reply, Buffer.from(`${ackStart}${seq}${more}}`, 'latin1'));
  }

  private send(to: string, payload: Buffer, headers: Buffer | null = null): void {
    if (to !== '') this.outbox.send({ to, shown: '', reply: '', headers, payload });
  }
}

/**
 * A message that lived shorter than the marker of its deletion could hide it, so it lives at least
 * as long; a stream of one message a subject has no such trouble.
 */
function withLeastTtl(
  { config }: Stream,
  headers: Buffer | null,
  plan: PublishPlan,
): [Buffer | null, PublishPlan] {
  const least = Math.floor(config.subject_delete_marker_ttl / nsPerSecond);
  if (!headers || plan.ttlSeconds <= 0 || plan.ttlSeconds >= least) return [headers, plan];
  if (config.max_msgs_per_subject === 1) return [headers, plan];
  const rest = withoutHeader(headers, 'Nats-TTL');
  return [withHeaders(rest, { 'Nats-TTL': String(least) }), { ...plan, ttlSeconds: least }];
}

import { z } from 'zod';
import type { ApiReplies } from '../api-replies.js';
import { apiLevel, storedMetadata } from '../api-level.js';
import type { ApiInput } from '../engine-io.js';
import { headerText, headerValue } from '../headers.js';
import { jsErrors } from '../js-errors.js';
import { firstSeqMax } from '../limits.js';
import type { ConsumerSet } from '../parts.js';
import type { AccountQuota } from '../quota.js';
import { shownStreamConfig, StreamConfigRequest, type StreamConfig } from '../stream-config.js';
import { checkStreamConfig, checkUpdate, stampMetadata } from './config-check.js';
import { isEmptyRequest, looksLikeJson, readRequest } from './request.js';
import type { Stream } from './stream.js';
import type { StreamSet } from './stream-set.js';
import { showStream } from './stream-view.js';

const namesMax = 1024;
const listMax = 256;
const subjectDetailsMax = 100_000;

const whole = z.number().refine(Number.isInteger, 'not an integer').default(0);
const PageRequest = z.strictObject({ offset: whole, subject: z.string().default('') });
const InfoRequest = z.strictObject({
  offset: whole,
  deleted_details: z.boolean().default(false),
  subjects_filter: z.string().default(''),
});
const count = whole.refine((value) => value >= 0, 'negative');
const PurgeRequest = z.strictObject({ seq: count, filter: z.string().default(''), keep: count });

/** `STREAM.*` without the messages in them. Each throws what the API answers. */
export class StreamApi {
  constructor(
    private readonly streams: StreamSet,
    private readonly consumers: ConsumerSet,
    private readonly replies: ApiReplies,
    private readonly quota: AccountQuota,
    private readonly nowNs: () => bigint,
    private readonly expire: (stream: Stream) => void,
  ) {}

  create(request: ApiInput, name: string): void {
    checkLevel(request);
    const { pedantic, ...given } = readRequest(StreamConfigRequest, request);
    if (name !== given.name) throw jsErrors.streamMismatch();
    if (/[\\/]/.test(name)) throw jsErrors.streamNamePath();
    if (given.sealed) {
      throw jsErrors.streamInvalidConfig('stream configuration for create can not be sealed');
    }
    if (given.mirror_direct && !given.mirror) {
      throw jsErrors.streamInvalidConfig('stream has no mirror but does have mirror direct');
    }
    const config = stampMetadata(checkStreamConfig(given, pedantic));
    if (config.num_replicas > 1) throw jsErrors.replicasNotSupported();
    let stream = this.streams.get(name);
    if (stream) {
      if (!sameConfig(stream.config, config)) throw jsErrors.streamNameExists();
    } else {
      this.quota.checkCount(this.streams.size);
      this.quota.checkReserved(config);
      if (this.streams.overlaps(config.subjects)) throw jsErrors.subjectOverlap();
      stream = this.streams.create(config);
    }
    const shown = this.show(stream);
    this.replies.ok(request, 'stream_create_response', { ...shown, did_create: true });
  }

  update(request: ApiInput, name: string): void {
    checkLevel(request);
    const { pedantic, ...given } = readRequest(StreamConfigRequest, request);
    const checked = checkStreamConfig(given, pedantic);
    if (name !== checked.name) throw jsErrors.streamMismatch();
    const stream = this.require(name);
    const config = checkUpdate(stream.config, stampMetadata(checked));
    this.checkConsumerLimits(stream, config);
    if (this.streams.overlaps(config.subjects, stream)) throw jsErrors.subjectOverlap();
    this.quota.checkReserved(config, stream.config);
    this.streams.update(stream, config);
    this.expire(stream);
    this.replies.ok(request, 'stream_update_response', this.show(stream));
  }

  delete(request: ApiInput, name: string): void {
    checkLevel(request);
    if (!isEmptyRequest(request.payload)) throw jsErrors.notEmptyRequest();
    this.streams.delete(this.require(name));
    this.replies.ok(request, 'stream_delete_response', { success: true });
  }

  purge(request: ApiInput, name: string): void {
    checkLevel(request);
    const range = looksLikeJson(request.payload) ? readRequest(PurgeRequest, request) : null;
    if (range && range.seq > 0 && range.keep > 0) throw jsErrors.badRequest();
    if (range && range.seq > firstSeqMax) throw jsErrors.badRequest();
    const stream = this.require(name);
    if (stream.config.sealed) throw jsErrors.streamSealed();
    if (stream.config.deny_purge) throw jsErrors.purgeFailed('stream purge not permitted');
    const { seq = 0, filter = '', keep = 0 } = range ?? {};
    // Up to but not including the first is nothing.
    const purged = seq === 1 ? 0 : stream.purge(rangeOf(seq, filter, keep));
    this.replies.ok(request, 'stream_purge_response', { success: true, purged });
  }

  info(request: ApiInput, name: string): void {
    checkLevel(request);
    const asked = looksLikeJson(request.payload)
      ? readRequest(InfoRequest, request)
      : InfoRequest.parse({});
    const stream = this.require(name);
    const page = { total: 0, offset: 0, limit: 0 };
    let subjects: Record<string, number> | undefined;
    if (asked.subjects_filter !== '') {
      const all = [...stream.store.subjects(asked.subjects_filter)].sort((a, b) =>
        a.subject < b.subject ? -1 : 1,
      );
      const offset = Math.max(asked.offset, 0);
      const part = all.slice(offset, offset + subjectDetailsMax);
      if (all.length > 0)
        Object.assign(page, { total: all.length, offset, limit: subjectDetailsMax });
      if (part.length > 0) {
        subjects = Object.fromEntries(part.map(({ subject, messages }) => [subject, messages]));
      }
    }
    const shown = showStream(stream, {
      consumers: this.consumers.count(stream),
      nowNs: this.nowNs(),
      withDeleted: asked.deleted_details,
      ...(subjects ? { subjects } : {}),
    });
    this.replies.ok(request, 'stream_info_response', { ...page, ...shown });
  }

  names(request: ApiInput): void {
    const { streams, page } = this.page(request, namesMax);
    const names = streams.map(({ name }) => name);
    // Go writes an empty list that was never filled as null.
    const shown = names.length > 0 ? names : null;
    this.replies.ok(request, 'stream_names_response', { ...page, streams: shown });
  }

  list(request: ApiInput): void {
    const { streams, page } = this.page(request, listMax);
    const shown = streams.map((stream) =>
      showStream(stream, {
        consumers: this.consumers.count(stream),
        nowNs: this.nowNs(),
        plain: true,
      }),
    );
    this.replies.ok(request, 'stream_list_response', { ...page, streams: shown });
  }

  private page(
    request: ApiInput,
    limit: number,
  ): { streams: Stream[]; page: { total: number; offset: number; limit: number } } {
    checkLevel(request);
    const asked = looksLikeJson(request.payload)
      ? readRequest(PageRequest, request)
      : PageRequest.parse({});
    const all = this.streams.sorted(asked.subject);
    const offset = Math.min(Math.max(asked.offset, 0), all.length);
    const page = { total: all.length, offset, limit };
    return { streams: all.slice(offset, offset + limit), page };
  }

  private checkConsumerLimits(stream: Stream, config: StreamConfig): void {
    const [old, next] = [stream.config.consumer_limits, config.consumer_limits];
    const over = stream.store.consumers().filter((stored) => {
      const { config: consumer } = JSON.parse(stored.config) as { config: Record<string, unknown> };
      const exceeds = (key: 'inactive_threshold' | 'max_ack_pending'): boolean =>
        (next?.[key] ?? 0) > 0 &&
        next?.[key] !== old?.[key] &&
        Number(consumer[key] ?? 0) > next![key];
      return exceeds('inactive_threshold') || exceeds('max_ack_pending');
    });
    if (over.length === 0) return;
    const names = over.map(({ name }) => name).join(', ');
    throw jsErrors.streamUpdateFailed(`change to limits violates consumers: ${names}`);
  }

  private require(name: string): Stream {
    const stream = this.streams.get(name);
    if (!stream) throw jsErrors.streamNotFound();
    return stream;
  }

  private show(stream: Stream): Record<string, unknown> {
    const consumers = this.consumers.count(stream);
    return showStream(stream, { consumers, nowNs: this.nowNs() });
  }
}

/** A client may say which level of the API it needs. @throws JetStreamApiError */
export function checkLevel({ headers }: ApiInput): void {
  if (!headers) return;
  const level = headerValue(headerText(headers), 'Nats-Required-Api-Level');
  if (level && !(/^[+-]?\d+$/.test(level) && Number(level) <= apiLevel)) {
    throw jsErrors.requiredApiLevel();
  }
}

function rangeOf(
  seq: number,
  filter: string,
  keep: number,
): { filter?: string; beforeSeq?: number; keep?: number } {
  return {
    ...(filter === '' || filter === '>' ? {} : { filter }),
    ...(seq > 0 ? { beforeSeq: seq } : {}),
    ...(keep > 0 ? { keep } : {}),
  };
}

function sameConfig(one: StreamConfig, other: StreamConfig): boolean {
  const normal = (config: StreamConfig): string => {
    const metadata = storedMetadata(config.metadata, 0);
    const sorted = Object.entries(metadata).sort(([a], [b]) => (a < b ? -1 : 1));
    return JSON.stringify({ ...shownStreamConfig(config), metadata: sorted });
  };
  return normal(one) === normal(other);
}

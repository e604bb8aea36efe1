import { createHash, randomUUID } from 'node:crypto';
import { z } from 'zod';
import { storedMetadata } from '../api-level.js';
import { JetStreamApiError } from '../api-error.js';
import type { ApiInput } from '../engine-io.js';
import { jsErrors } from '../js-errors.js';
import type { StreamHandle } from '../parts.js';
import { looksLikeJson, readRequest } from '../streams/request.js';
import { checkLevel } from '../streams/stream-api.js';
import { formatTime, parseTime, zeroTime } from '@rookery/conat/contract';
import {
  applyDefaults,
  checkConfig,
  checkWorkQueue,
  consumerNameMax,
  updateRefusal,
} from './consumer-checks.js';
import { ConsumerConfig, filtersOf, isDurable, isPush, sameConfig } from './consumer-config.js';
import { consumerErrors } from './consumer-errors.js';
import { consumerInfo } from './consumer-info.js';
import type { Consumer } from './consumer.js';
import type { ConsumerDirectory } from './consumer-directory.js';

const CreateRequest = z.strictObject({
  stream_name: z.string().default(''),
  config: ConsumerConfig.prefault({}),
  action: z.enum(['create', 'update', '']).default(''),
  pedantic: z.boolean().default(false),
});
const PageRequest = z.strictObject({ offset: z.int().default(0) });
const PauseRequest = z.strictObject({ pause_until: z.string().optional() });
const UnpinRequest = z.strictObject({ group: z.string().default('') });

const pageSizes = { names: 1_024, list: 256 };
type Answer = Record<string, unknown>;
type Handler = (request: ApiInput, tokens: readonly string[]) => Answer;

/** `CONSUMER.*` of the API, but for the requests for messages. */
export class ConsumerApi {
  constructor(private readonly consumers: ConsumerDirectory) {}

  handle(request: ApiInput, tokens: readonly string[]): void {
    const [type, handler] = this.route(tokens);
    const { replies } = this.consumers;
    try {
      checkLevel(request);
      replies.ok(request, type, handler(request, tokens));
    } catch (error) {
      if (!(error instanceof JetStreamApiError)) throw error;
      replies.error(request, type, error);
    }
  }

  private route(tokens: readonly string[]): [string, Handler] {
    const [, verb, second] = tokens;
    const exact = tokens.length;
    if (verb === 'CREATE' && exact >= 3) {
      return ['consumer_create_response', (request) => this.create(request, tokens)];
    }
    if (verb === 'DURABLE' && second === 'CREATE' && exact >= 5) {
      return ['consumer_create_response', (request) => this.create(request, tokens)];
    }
    if (verb === 'NAMES' && exact === 3) return ['consumer_names_response', this.names];
    if (verb === 'LIST' && exact === 3) return ['consumer_list_response', this.list];
    if (verb === 'INFO' && exact === 4) return ['consumer_info_response', this.info];
    if (verb === 'DELETE' && exact === 4) return ['consumer_delete_response', this.delete];
    if (verb === 'PAUSE' && exact === 4) return ['consumer_pause_response', this.pause];
    if (verb === 'LEADER' && exact === 5) {
      return ['consumer_leader_stepdown_response', refuseClusterRequest];
    }
    if (verb === 'PEER' && second === 'REMOVE' && exact === 5) {
      return ['consumer_remove_peer_response', refuseClusterRequest];
    }
    if (verb === 'PEER' && second === 'EVACUATE' && exact === 5) {
      return ['consumer_evacuate_peer_response', refuseClusterRequest];
    }
    if (verb === 'UNPIN' && exact === 4) return ['consumer_unpin_response', this.unpin];
    return ['system_response', refuseUnknown];
  }

  private create(request: ApiInput, tokens: readonly string[]): Answer {
    const body = readRequest(CreateRequest, request);
    const { config, action } = body;
    const place = placeOf(tokens);
    if (place.stream !== body.stream_name) throw jsErrors.streamMismatch();
    if (/[\\/]/.test(place.name)) throw consumerErrors.pathSeparators();
    checkPlace(place, config);
    if (config.num_replicas > 1) throw jsErrors.replicasNotSupported();
    const stream = this.stream(place.stream);
    const name = isDurable(config) ? config.durable_name : config.name;
    const existing = name === '' ? undefined : this.consumers.find(stream.name, name);
    config.pause_until = existing ? existing.config.pause_until : utc(config.pause_until);
    config.metadata = storedMetadata(config.metadata, config.pause_until === undefined ? 0 : 1);
    applyDefaults(config, stream.config);
    checkConfig(config, stream.config);
    const consumer = existing
      ? this.update(existing, config, action, request)
      : this.add(stream, config, action, request);
    return consumerInfo(consumer, this.consumers.clock);
  }

  private add(
    stream: StreamHandle,
    config: ConsumerConfig,
    action: string,
    request: ApiInput,
  ): Consumer {
    if (action === 'update') throw consumerErrors.doesNotExist();
    const others = this.consumers.of(stream.name);
    const max = this.consumers.quota.consumersOf(stream.config);
    if (max > 0 && others.length >= max) throw consumerErrors.limitReached();
    if (stream.config.retention === 'workqueue') checkWorkQueue(config, others);
    if (config.durable_name.length > consumerNameMax) {
      throw consumerErrors.nameTooLong(consumerNameMax);
    }
    const name = isDurable(config) ? config.durable_name : config.name || newName();
    if (!isDurable(config)) config.name = name;
    return this.consumers.create(stream, config, this.deliverTo(config, request), name);
  }

  private update(
    existing: Consumer,
    config: ConsumerConfig,
    action: string,
    request: ApiInput,
  ): Consumer {
    const same = sameConfig(existing.config, config);
    if (action === 'create' && !same) throw consumerErrors.alreadyExists();
    const { stream } = existing;
    if (stream.config.retention === 'workqueue') {
      const others = this.consumers.of(stream.name).filter((other) => other !== existing);
      if (others.some((other) => other.collides(filtersOf(config)))) {
        throw consumerErrors.workQueueNotUnique();
      }
    }
    if (same) return existing;
    const refusal = updateRefusal(existing.config, config);
    if (refusal !== null) throw consumerErrors.createFailed(refusal);
    const moves = existing.config.deliver_subject !== config.deliver_subject;
    if (moves && existing.push?.active) throw consumerErrors.nameInUse();
    const deliverTo = moves ? this.deliverTo(config, request) : existing.deliverTo;
    existing.update(config, deliverTo);
    this.consumers.store(existing);
    return existing;
  }

  /**
   * The deliver subject on the broker. An inbox must be the requester's own; a rooted client does
   * not know its identity's part of it.
   */
  private deliverTo(config: ConsumerConfig, request: ApiInput): string {
    const subject = config.deliver_subject;
    if (!isPush(config)) return '';
    const { subjectPrefix } = this.consumers.account;
    if (subjectPrefix === '') return subject;
    if (!subject.startsWith('_INBOX.')) return subjectPrefix + subject;
    const own = /^_INBOX\.[^.]+\./.exec(request.reply)?.[0];
    if (own === undefined) throw consumerErrors.invalidDeliverSubject();
    return subject.startsWith(own) ? subject : own + subject.slice('_INBOX.'.length);
  }

  private readonly names: Handler = (request, tokens) => {
    const all = this.consumers.of(this.stream(tokens[2]!).name).map(({ name }) => name);
    return page('consumers', all.sort(), request, pageSizes.names);
  };

  private readonly list: Handler = (request, tokens) => {
    const all = this.consumers.of(this.stream(tokens[2]!).name);
    all.sort((a, b) => (a.name < b.name ? -1 : 1));
    const { clock } = this.consumers;
    const paged = page('consumers', all, request, pageSizes.list);
    const shown = (paged.consumers as Consumer[]).map((one) => consumerInfo(one, clock));
    return { ...paged, consumers: shown };
  };

  private readonly info: Handler = (request, tokens) => {
    if (request.payload.length > 0 && request.payload.toString().trim() !== '{}') {
      throw jsErrors.notEmptyRequest();
    }
    return consumerInfo(this.consumer(tokens), this.consumers.clock);
  };

  private readonly delete: Handler = (request, tokens) => {
    if (request.payload.length > 0 && request.payload.toString().trim() !== '{}') {
      throw jsErrors.notEmptyRequest();
    }
    this.consumers.remove(this.consumer(tokens));
    return { success: true };
  };

  private readonly pause: Handler = (request, tokens) => {
    const { pause_until: until } = readRequest(PauseRequest, request);
    const consumer = this.consumer(tokens);
    const pauseUntil = utc(until);
    const metadata = storedMetadata(consumer.config.metadata, pauseUntil === undefined ? 0 : 1);
    const config = { ...consumer.config, metadata, pause_until: pauseUntil };
    consumer.update(config, consumer.deliverTo);
    this.consumers.store(consumer);
    const leftNs = consumer.pauseLeftNs(this.consumers.clock.nowNs());
    const { advisories } = this.consumers;
    advisories.paused(consumer.stream.name, consumer.name, leftNs > 0, pauseUntil ?? zeroTime);
    return {
      paused: leftNs > 0,
      pause_until: pauseUntil ?? zeroTime,
      ...(leftNs > 0 ? { pause_remaining: leftNs } : {}),
    };
  };

  private readonly unpin: Handler = (request, tokens) => {
    if (request.payload.length === 0) throw jsErrors.invalidJson('unexpected end of JSON input');
    readRequest(UnpinRequest, request);
    this.consumer(tokens);
    throw consumerErrors.invalidPriorityGroup();
  };

  private stream(name: string): StreamHandle {
    const stream = this.consumers.lookup.find(name);
    if (!stream) throw jsErrors.streamNotFound();
    return stream;
  }

  private consumer(tokens: readonly string[]): Consumer {
    const stream = this.stream(tokens[2]!);
    const consumer = this.consumers.find(stream.name, tokens[3]!);
    if (!consumer) throw consumerErrors.notFound();
    return consumer;
  }
}

interface Place {
  readonly form: 'ephemeral' | 'durable' | 'named';
  readonly stream: string;
  readonly name: string;
  readonly filter: string;
}

/** What the subject of a request for a new consumer says. */
function placeOf(tokens: readonly string[]): Place {
  if (tokens[1] === 'DURABLE') {
    if (tokens.length !== 5) throw consumerErrors.durableNotInSubject();
    return { form: 'durable', stream: tokens[3]!, name: tokens[4]!, filter: '' };
  }
  if (tokens.length === 3) return { form: 'ephemeral', stream: tokens[2]!, name: '', filter: '' };
  return {
    form: 'named',
    stream: tokens[2]!,
    name: tokens[3]!,
    filter: tokens.slice(4).join('.'),
  };
}

function checkPlace({ form, name, filter }: Place, config: ConsumerConfig): void {
  const durable = config.durable_name;
  if (form === 'durable') {
    if (durable === '') throw consumerErrors.durableNotSet();
    if (durable !== name) throw consumerErrors.durableMismatch();
  }
  if (form === 'named' && durable !== '' && durable !== name) {
    throw consumerErrors.durableMismatch();
  }
  if (form === 'ephemeral' && durable !== '') throw consumerErrors.ephemeralWithDurable();
  if (form !== 'ephemeral') config.name = name;
  if (filter !== '' && config.filter_subjects.length > 0) throw consumerErrors.multipleFilters();
  if (filter !== '' && config.filter_subject !== filter) throw consumerErrors.filterMismatch();
}

const refuseClusterRequest: Handler = () => {
  throw jsErrors.clusterRequired();
};

const refuseUnknown: Handler = () => {
  throw jsErrors.badRequest();
};

function page(key: string, all: unknown[], request: ApiInput, limit: number): Answer {
  const asked = looksLikeJson(request.payload) ? readRequest(PageRequest, request).offset : 0;
  const offset = Math.min(Math.max(0, asked), all.length);
  return { total: all.length, offset, limit, [key]: all.slice(offset, offset + limit) };
}

const newName = (): string =>
  createHash('sha256').update(randomUUID()).digest('base64url').replace(/[_-]/g, 'x').slice(0, 8);

function utc(time: string | undefined): string | undefined {
  const ns = time === undefined ? null : parseTime(time);
  return ns === null || ns <= 0n ? undefined : formatTime(ns);
}

import type { Consumer } from './consumer.js';
import type { StreamConfig } from '../stream-config.js';
import { isLiteral, parseFilter } from '@rookery/conat/contract';
import { jsErrors } from '../js-errors.js';
import { consumerErrors as errors } from './consumer-errors.js';
import { patternSet } from './filters.js';
import { filtersOf, isDurable, isPush, type ConsumerConfig } from './consumer-config.js';

const ms = 1_000_000;
const defaults = {
  ackWaitNs: 30_000 * ms,
  maxAckPending: 1_000,
  maxWaiting: 512,
  inactiveThresholdNs: 5_000 * ms,
};
const heartbeatMinNs = 100 * ms;
const descriptionMax = 4 * 1024;
const metadataBytesMax = 128 * 1024;
export const consumerNameMax = 255;
const tokensMax = 256;

/** Fills in what a server fills in. Changes its argument. */
export function applyDefaults(config: ConsumerConfig, stream: Readonly<StreamConfig>): void {
  if (config.max_deliver === 0 || config.max_deliver < -1) config.max_deliver = -1;
  for (const key of [
    'max_waiting',
    'max_batch',
    'max_expires',
    'max_bytes',
    'idle_heartbeat',
    'inactive_threshold',
    'priority_timeout',
  ] as const) {
    if (config[key] < 0) config[key] = 0;
  }
  if (config.max_ack_pending < -1) config.max_ack_pending = -1;
  if (!isPush(config) && config.max_waiting === 0) config.max_waiting = defaults.maxWaiting;
  if (config.ack_wait === 0 && config.ack_policy !== 'none') config.ack_wait = defaults.ackWaitNs;
  if (config.backoff.length > 0) config.ack_wait = config.backoff[0]!;
  const limits = stream.consumer_limits;
  if (config.max_ack_pending === 0) config.max_ack_pending = limits?.max_ack_pending ?? 0;
  if (config.inactive_threshold === 0) config.inactive_threshold = limits?.inactive_threshold ?? 0;
  if (config.max_ack_pending === 0 && config.ack_policy !== 'none') {
    config.max_ack_pending = defaults.maxAckPending;
  }
  if (!isDurable(config) && config.inactive_threshold === 0) {
    config.inactive_threshold = defaults.inactiveThresholdNs;
  }
}

/** @throws JetStreamApiError with the error that a server gives */
export function checkConfig(config: ConsumerConfig, stream: Readonly<StreamConfig>): void {
  checkNames(config);
  checkReplicas(config, stream);
  checkTimes(config);
  if (isPush(config)) checkPush(config, stream);
  else checkPull(config, stream);
  checkLimits(config, stream);
  checkFilters(config);
  checkStart(config);
  checkRest(config);
}

const isAssetName = (name: string): boolean => !/[ \t\r\n\f.*>\\/]/.test(name);

function checkNames({ name, durable_name: durable }: ConsumerConfig): void {
  if (name !== '' && !isAssetName(name)) {
    throw jsErrors.streamInvalidConfig("consumer name can not contain '.', '*', '>', '\\', '/'");
  }
  if (durable !== '' && !isAssetName(durable)) {
    throw jsErrors.streamInvalidConfig(
      "consumer durable name can not contain '.', '*', '>', '\\', '/'",
    );
  }
}

function checkReplicas(config: ConsumerConfig, stream: Readonly<StreamConfig>): void {
  if (config.num_replicas > stream.num_replicas) throw errors.replicasExceed();
  if (config.num_replicas < 0) throw jsErrors.replicasNegative();
}

function checkTimes(config: ConsumerConfig): void {
  if (config.backoff.some((wait) => wait < 0)) throw errors.backoffNegative();
  if (config.ack_wait < 0) throw errors.ackWaitNegative();
  const { backoff, max_deliver: maxDeliver } = config;
  if (backoff.length > 0 && maxDeliver !== -1 && backoff.length > maxDeliver) {
    throw errors.maxDeliverBackoff();
  }
  if (config.description.length > descriptionMax) throw errors.descriptionTooLong(descriptionMax);
}

function checkPush(config: ConsumerConfig, stream: Readonly<StreamConfig>): void {
  const { deliver_subject: subject } = config;
  const tokens = parseFilter(subject, tokensMax);
  if (tokens && !isLiteral(subject)) throw errors.deliverWildcards();
  if (!tokens) throw errors.invalidDeliverSubject();
  if (patternSet(stream.subjects).covers(tokens)) throw errors.deliverCycle();
  if (config.max_waiting !== 0) throw errors.pushMaxWaiting();
  if (config.max_ack_pending > 0 && config.ack_policy === 'none') throw errors.maxPendingNeedsAck();
  if (config.idle_heartbeat > 0 && config.idle_heartbeat < heartbeatMinNs) {
    throw errors.smallHeartbeat();
  }
  if (config.direct && isDurable(config)) throw errors.directNeedsEphemeral();
}

function checkPull(config: ConsumerConfig, stream: Readonly<StreamConfig>): void {
  if (config.ack_policy === 'none' && stream.retention === 'workqueue') throw errors.pullNeedsAck();
  if (config.rate_limit_bps > 0) throw errors.pullRateLimit();
  if (config.idle_heartbeat > 0) throw errors.heartbeatNeedsPush();
  if (config.flow_control) throw errors.flowControlNeedsPush();
  if (config.max_expires !== 0 && config.max_expires < ms) throw errors.expiresTooSmall();
  if (config.direct) throw errors.directNeedsPush();
}

function checkLimits(config: ConsumerConfig, stream: Readonly<StreamConfig>): void {
  const pendingMax = stream.consumer_limits?.max_ack_pending ?? 0;
  if (pendingMax > 0 && config.max_ack_pending > pendingMax) {
    throw errors.maxAckPendingExcess(pendingMax);
  }
  const inactiveMax = stream.consumer_limits?.inactive_threshold ?? 0;
  if (inactiveMax > 0 && config.inactive_threshold > inactiveMax) {
    throw errors.inactiveExcess(inactiveMax);
  }
}

function checkFilters(config: ConsumerConfig): void {
  if (config.filter_subject !== '' && config.filter_subjects.length > 0) {
    throw errors.duplicateFilters();
  }
  if (config.filter_subjects.includes('')) throw errors.emptyFilter();
  const filters = filtersOf(config).map((filter) => {
    const tokens = parseFilter(filter, tokensMax);
    if (!tokens) throw jsErrors.streamInvalidConfig('nats: invalid subject');
    return { filter, tokens };
  });
  for (const [at, { tokens }] of filters.entries()) {
    const others = filters.filter((_, i) => i !== at).map(({ filter }) => filter);
    if (patternSet(others).covers(tokens)) throw errors.overlappingFilters();
  }
}

const startOf: Readonly<Record<ConsumerConfig['deliver_policy'], string>> = {
  all: 'all',
  last: 'last',
  new: 'new',
  last_per_subject: 'last per subject',
  by_start_sequence: 'by start sequence',
  by_start_time: 'by start time',
};

function checkStart(config: ConsumerConfig): void {
  const policy = config.deliver_policy;
  const said = startOf[policy];
  const alsoSet = (what: string): Error =>
    errors.invalidPolicy(
      `consumer delivery policy is deliver ${said}, but optional start ${what} is also set`,
    );
  const notSet = (what: string): Error =>
    errors.invalidPolicy(
      `consumer delivery policy is deliver ${said}, but optional ${what} is not set`,
    );
  const bySequence = policy === 'by_start_sequence';
  const byTime = policy === 'by_start_time';
  if (bySequence && config.opt_start_seq === 0) throw notSet('start sequence');
  if (byTime && config.opt_start_time === undefined) throw notSet('start time');
  if (!bySequence && config.opt_start_seq > 0) {
    throw alsoSet(byTime ? 'start sequence' : 'sequence');
  }
  if (!byTime && config.opt_start_time !== undefined) throw alsoSet('time');
  if (config.opt_start_time !== undefined && Number.isNaN(Date.parse(config.opt_start_time))) {
    throw errors.invalidPolicy(`"${config.opt_start_time}" is not a time`);
  }
  if (policy === 'last_per_subject' && filtersOf(config).length === 0) {
    throw notSet('filter subject');
  }
}

function checkRest(config: ConsumerConfig): void {
  const { sample_freq: sample } = config;
  if (sample !== '' && !/^\d+%?$/.test(sample)) {
    throw errors.invalidSampling(
      `strconv.Atoi: parsing "${sample.replace(/%$/, '')}": invalid syntax`,
    );
  }
  if (config.flow_control && config.idle_heartbeat === 0) throw errors.flowControlNeedsHeartbeat();
  if (isDurable(config) && config.name !== '' && config.name !== config.durable_name) {
    throw errors.durableAndName();
  }
  const metadataBytes = Object.entries(config.metadata).reduce(
    (sum, [key, value]) => sum + key.length + value.length,
    0,
  );
  if (metadataBytes > metadataBytesMax) {
    throw errors.metadataTooLong(`${metadataBytesMax / 1024}KB`);
  }
  const groups = config.priority_groups.length > 0;
  if (config.priority_policy === '' || config.priority_policy === 'none') {
    if (groups) throw errors.groupsWithoutPolicy();
    return;
  }
  if (isPush(config)) throw errors.pushWithGroups();
  throw errors.invalidPolicy(`priority policy "${config.priority_policy}" is not supported`);
}

/** What may change of a consumer that exists. @returns the reason why not, or null */
export function updateRefusal(old: ConsumerConfig, next: ConsumerConfig): string | null {
  if (old.deliver_policy !== next.deliver_policy) return 'deliver policy can not be updated';
  if (old.mem_storage !== next.mem_storage) return 'storage type can not be updated';
  if (old.direct !== next.direct) return 'direct can not be updated';
  if (old.opt_start_seq !== next.opt_start_seq) return 'start sequence can not be updated';
  const [from, to] = [old, next].map(({ opt_start_time: time }) =>
    time === undefined ? null : Date.parse(time),
  );
  if (from !== to) return 'start time can not be updated';
  if (old.ack_policy !== next.ack_policy) return 'ack policy can not be updated';
  if (old.replay_policy !== next.replay_policy) return 'replay policy can not be updated';
  if (old.idle_heartbeat !== next.idle_heartbeat) return 'heart beats can not be updated';
  if (old.flow_control !== next.flow_control) return 'flow control can not be updated';
  if (isPush(old) !== isPush(next)) {
    return isPush(old)
      ? 'can not update push consumer to pull based'
      : 'can not update pull consumer to push based';
  }
  if (old.max_waiting !== next.max_waiting) return 'max waiting can not be updated';
  return null;
}

/** A work queue's consumers share its messages: none may be wanted by two. */
export function checkWorkQueue(config: ConsumerConfig, others: readonly Consumer[]): void {
  if (config.ack_policy !== 'explicit') throw errors.workQueueNeedsExplicit();
  if (config.deliver_policy !== 'all') throw errors.workQueueNotAll();
  if (others.length === 0) return;
  const filters = filtersOf(config);
  if (filters.length === 0) throw errors.workQueueUnfiltered();
  if (others.some((other) => other.collides(filters))) throw errors.workQueueNotUnique();
}

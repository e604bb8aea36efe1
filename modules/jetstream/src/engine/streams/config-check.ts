import { parseFilter } from '@rookery/conat/contract';
import { storedMetadata } from '../api-level.js';
import { jsErrors } from '../js-errors.js';
import { firstSeqMax, streamSubjectsMax, subjectTokensMax } from '../limits.js';
import type { StreamConfig } from '../stream-config.js';
import { isSubset, isValidSubject, subjectsCollide } from '../subject-match.js';

const nameBytesMax = 255;
const descriptionBytesMax = 4 * 1024;
const metadataBytesMax = 128 * 1024;
const replicasMax = 5;
const nsPerSecond = 1_000_000_000;
const shortestNs = 100_000_000;
const defaultDuplicateWindowNs = 120 * nsPerSecond;

const invalid = jsErrors.streamInvalidConfig;

/** One that a file and a subject can have in it. */
const isAssetName = (name: string): boolean => name !== '' && !/[ \t\r\n\f.*>\\/]/.test(name);

/**
 * Checks a configuration and fills in what a server fills in, in the order in which a server does
 * both, so that the same mistake gives the same error.
 * @throws JetStreamApiError
 */
export function checkStreamConfig(given: StreamConfig, pedantic: boolean): StreamConfig {
  const config = { ...given };
  checkNames(config);
  checkReplicas(config);
  checkFirstSeq(config);
  normalizeLimits(config, pedantic);
  checkTimes(config, pedantic);
  checkCombinations(config, pedantic);
  refuseUnsupported(config);
  checkSubjects(config);
  checkPlacement(config);
  return config;
}

/** With the level of the API that the configuration needs. */
export function stampMetadata(config: StreamConfig): StreamConfig {
  const needsTtl = config.allow_msg_ttl || config.subject_delete_marker_ttl > 0;
  return { ...config, metadata: storedMetadata(config.metadata, needsTtl ? 1 : 0) };
}

function checkNames(config: StreamConfig): void {
  if (!isAssetName(config.name)) {
    throw invalid("stream name is required and can not contain '.', '*', '>', '\\', '/'");
  }
  if (config.name.length > nameBytesMax) {
    throw invalid(`stream name is too long, maximum allowed is ${nameBytesMax}`);
  }
  if ((config.description?.length ?? 0) > descriptionBytesMax) {
    throw invalid(`stream description is too long, maximum allowed is ${descriptionBytesMax}`);
  }
  const metadata = Object.entries(config.metadata ?? {});
  const metadataBytes = metadata.reduce((sum, [key, value]) => sum + key.length + value.length, 0);
  if (metadataBytes > metadataBytesMax) {
    throw invalid(`stream metadata exceeds maximum size of ${metadataBytesMax} bytes`);
  }
}

function checkReplicas(config: StreamConfig): void {
  if (config.num_replicas === 0) config.num_replicas = 1;
  if (config.num_replicas > replicasMax) throw invalid(`maximum replicas is ${replicasMax}`);
  if (config.num_replicas < 0) throw jsErrors.replicasNegative();
}

function checkFirstSeq({ first_seq: first }: StreamConfig): void {
  if (first > firstSeqMax) throw invalid(`first sequence is too large, maximum is ${firstSeqMax}`);
}

function normalizeLimits(config: StreamConfig, pedantic: boolean): void {
  const limits = [
    'max_msgs',
    'max_msgs_per_subject',
    'max_bytes',
    'max_msg_size',
    'max_consumers',
  ] as const;
  for (const limit of limits) {
    if (config[limit] > 0 || config[limit] === -1) continue;
    if (pedantic && config[limit] < -1) throw jsErrors.pedantic(`${limit} must be set to -1`);
    config[limit] = -1;
  }
}

function checkTimes(config: StreamConfig, pedantic: boolean): void {
  const { max_age: maxAge } = config;
  if (maxAge < 0) throw invalid('max age can not be negative');
  if (maxAge !== 0 && maxAge < shortestNs) throw invalid('max age needs to be >= 100ms');
  if (config.duplicate_window === 0) {
    const ageIsLess = maxAge !== 0 && maxAge < defaultDuplicateWindowNs;
    if (ageIsLess && pedantic) {
      throw jsErrors.pedantic('duplicate window cannot be bigger than max age');
    }
    config.duplicate_window = ageIsLess ? maxAge : defaultDuplicateWindowNs;
  }
  const { duplicate_window: window } = config;
  if (window < 0) throw invalid('duplicates window can not be negative');
  if (maxAge !== 0 && window > maxAge) {
    throw invalid('duplicates window can not be larger then max age');
  }
  if (window < shortestNs) throw invalid('duplicates window needs to be >= 100ms');
}

function checkCombinations(config: StreamConfig, pedantic: boolean): void {
  if (config.deny_purge && config.allow_rollup_hdrs) {
    throw invalid('roll-ups require the purge permission');
  }
  if (config.discard_new_per_subject) {
    if (config.discard !== 'new') {
      throw invalid('discard new per subject requires discard new policy to be set');
    }
    if (config.max_msgs_per_subject <= 0) {
      throw invalid('discard new per subject requires max msgs per subject > 0');
    }
  }
  const { subject_delete_marker_ttl: markerTtl } = config;
  if (markerTtl < 0) throw invalid('subject delete marker TTL must not be negative');
  if (markerTtl === 0) return;
  if (markerTtl < nsPerSecond) throw invalid('subject delete marker TTL must be at least 1 second');
  if (!config.allow_msg_ttl && pedantic) {
    throw invalid('subject delete marker cannot be set if message TTLs are disabled');
  }
  config.allow_msg_ttl = true;
  if (config.allow_rollup_hdrs) return;
  if (pedantic) throw invalid('subject delete marker cannot be set if roll-ups are disabled');
  config.allow_rollup_hdrs = true;
  config.deny_purge = false;
}

/** Known to JetStream, not to us: named, so that nobody waits for what will not happen. */
function refuseUnsupported(config: StreamConfig): void {
  const set: Readonly<Record<string, unknown>> = {
    'stream mirrors': config.mirror,
    'stream sources': (config.sources?.length ?? 0) > 0,
    republish: config.republish,
    'subject transforms': config.subject_transform,
    'message counters': config.allow_msg_counter,
    'atomic batch publishing': config.allow_atomic,
    'message schedules': config.allow_msg_schedules,
    'fast batch publishing': config.allow_batched,
    'async persist mode': config.persist_mode === 'async',
  };
  for (const [what, present] of Object.entries(set)) {
    if (present) throw invalid(`${what} not supported`);
  }
}

function checkSubjects(config: StreamConfig): void {
  if (config.subjects.length === 0) config.subjects = [config.name];
  if (config.subjects.length > streamSubjectsMax) {
    throw invalid(`too many subjects, maximum allowed is ${streamSubjectsMax}`);
  }
  for (const [at, subject] of config.subjects.entries()) {
    const others = config.subjects.slice(at + 1);
    const isHeard = parseFilter(subject, subjectTokensMax) !== null;
    if (!isValidSubject(subject) || !isHeard) throw invalid('invalid subject');
    if (subject === '>' && !config.no_ack) {
      throw invalid('capturing all subjects requires no-ack to be true');
    }
    if (subject === '>' && config.num_replicas !== 1) {
      throw invalid('capturing all subjects requires replicas of 1');
    }
    if (!config.no_ack) checkReserved(subject);
    const other = others.find((one) => subjectsCollide(one, subject));
    if (other !== undefined) throw invalid(`subject "${subject}" overlaps with "${other}"`);
  }
}

function checkReserved(subject: string): void {
  const overlapsApi = ['$JS.>', '$JSC.>', '$NRG.>'].some((space) =>
    subjectsCollide(subject, space),
  );
  if (overlapsApi && !isSubset(subject, '$JS.EVENT.>')) {
    throw invalid('subjects that overlap with jetstream api require no-ack to be true');
  }
  if (subjectsCollide(subject, '$SYS.>') && !isSubset(subject, '$SYS.ACCOUNT.>')) {
    throw invalid('subjects that overlap with system api require no-ack to be true');
  }
}

function checkPlacement(config: StreamConfig): void {
  const { placement } = config;
  if (!placement) return;
  if (placement.preferred !== '') throw invalid('preferred server not permitted in placement');
  if (placement.cluster === '' && placement.tags.length === 0) delete config.placement;
}

/**
 * What an update may not change, and what sealing implies.
 * @throws JetStreamApiError
 */
export function checkUpdate(old: Readonly<StreamConfig>, next: StreamConfig): StreamConfig {
  const config = { ...next };
  const refuse = (what: string): Error => invalid(`stream configuration update can not ${what}`);
  if (config.num_replicas > 1) throw jsErrors.replicasNotSupported();
  if (config.storage !== old.storage) throw refuse('change storage type');
  const wasOrIsQueue = old.retention === 'workqueue' || config.retention === 'workqueue';
  if (config.retention !== old.retention && wasOrIsQueue) {
    throw refuse('change retention policy to/from workqueue');
  }
  if (!config.sealed && old.sealed) throw refuse('unseal a sealed stream');
  if (!config.deny_delete && old.deny_delete) throw refuse('cancel deny message deletes');
  if (!config.deny_purge && old.deny_purge) throw refuse('cancel deny purge');
  if (old.allow_msg_ttl && !config.allow_msg_ttl) {
    throw invalid('message TTL status can not be disabled');
  }
  if (!config.sealed) return config;
  return {
    ...config,
    max_age: 0,
    discard: 'new',
    deny_delete: true,
    deny_purge: true,
    allow_rollup_hdrs: false,
  };
}

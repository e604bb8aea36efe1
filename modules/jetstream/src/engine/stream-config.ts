import { z } from 'zod';

/** Integers as JSON has them: durations may lie beyond what a double holds exactly. */
const integer = z
  .number()
  .refine((value) => Number.isInteger(value) && Math.abs(value) < 2 ** 63, 'not an integer');
/** A count where -1 (or 0) means no limit, as JetStream writes it. */
const limit = integer.default(-1);
const nanoseconds = integer.default(0);
const flag = z.boolean().default(false);

/**
 * A stream's configuration in JetStream's JSON, with the defaults of a NATS server. Unknown keys
 * are an error, as for a server; what is known and not supported is refused by the checks
 * with their own error. Durations are nanoseconds, 0 for none.
 */
export const StreamConfig = z.strictObject({
  name: z.string().default(''),
  description: z.string().optional(),
  subjects: z.array(z.string()).default([]),
  retention: z.enum(['limits', 'interest', 'workqueue']).default('limits'),
  max_consumers: limit,
  max_msgs: limit,
  max_msgs_per_subject: limit,
  max_bytes: limit,
  max_age: nanoseconds,
  max_msg_size: limit,
  discard: z.enum(['old', 'new']).default('old'),
  discard_new_per_subject: flag,
  storage: z.enum(['file', 'memory']).default('file'),
  num_replicas: integer.default(0),
  no_ack: flag,
  duplicate_window: nanoseconds,
  compression: z.enum(['none', 's2']).default('none'),
  sealed: flag,
  deny_delete: flag,
  deny_purge: flag,
  allow_rollup_hdrs: flag,
  allow_direct: flag,
  mirror_direct: flag,
  allow_msg_ttl: flag,
  subject_delete_marker_ttl: nanoseconds,
  first_seq: integer.min(0).default(0),
  metadata: z.record(z.string(), z.string()).optional(),
  consumer_limits: z
    .strictObject({ inactive_threshold: nanoseconds, max_ack_pending: integer.default(0) })
    .optional(),
  placement: z
    .strictObject({
      cluster: z.string().default(''),
      tags: z.array(z.string()).default([]),
      preferred: z.string().default(''),
    })
    .optional(),
  // Known, and refused when set.
  mirror: z.looseObject({}).optional(),
  sources: z.array(z.looseObject({})).optional(),
  republish: z.looseObject({}).optional(),
  subject_transform: z.looseObject({}).optional(),
  allow_msg_counter: flag,
  allow_atomic: flag,
  allow_msg_schedules: flag,
  allow_batched: flag,
  persist_mode: z.enum(['', 'default', 'async']).default('default'),
});
export type StreamConfig = z.output<typeof StreamConfig>;

/** As it was stored, perhaps by a version that knew more. */
export const StoredStreamConfig = StreamConfig.strip();

/** To create or update: `pedantic` refuses what would otherwise be adjusted silently. */
export const StreamConfigRequest = StreamConfig.extend({ pedantic: flag });

const shownWhenSet = [
  'max_msg_size',
  'no_ack',
  'duplicate_window',
  'first_seq',
  'discard_new_per_subject',
  'subject_delete_marker_ttl',
] as const;

/** As a server answers it: with the keys that it leaves out when they are empty left out. */
export function shownStreamConfig(config: StreamConfig): Record<string, unknown> {
  const shown: Record<string, unknown> = {
    name: config.name,
    description: config.description || undefined,
    subjects: config.subjects.length > 0 ? config.subjects : undefined,
    retention: config.retention,
    max_consumers: config.max_consumers,
    max_msgs: config.max_msgs,
    max_bytes: config.max_bytes,
    max_age: config.max_age,
    max_msgs_per_subject: config.max_msgs_per_subject,
    discard: config.discard,
    storage: config.storage,
    num_replicas: config.num_replicas,
    compression: config.compression,
    allow_direct: config.allow_direct,
    mirror_direct: config.mirror_direct,
    sealed: config.sealed,
    deny_delete: config.deny_delete,
    deny_purge: config.deny_purge,
    allow_rollup_hdrs: config.allow_rollup_hdrs,
    consumer_limits: shownLimits(config.consumer_limits),
    allow_msg_ttl: config.allow_msg_ttl,
    placement: shownPlacement(config.placement),
    metadata: config.metadata,
  };
  for (const key of shownWhenSet) if (config[key]) shown[key] = config[key];
  return shown;
}

function shownLimits(limits: StreamConfig['consumer_limits']): Record<string, number> {
  return {
    ...(limits?.inactive_threshold ? { inactive_threshold: limits.inactive_threshold } : {}),
    ...(limits?.max_ack_pending ? { max_ack_pending: limits.max_ack_pending } : {}),
  };
}

function shownPlacement(placement: StreamConfig['placement']): unknown {
  if (!placement) return undefined;
  return {
    cluster: placement.cluster || undefined,
    tags: placement.tags.length > 0 ? placement.tags : undefined,
  };
}

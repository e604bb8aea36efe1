import { z } from 'zod';

/** A count where -1 (or 0) means no limit, as JetStream writes it. */
const limit = z.int().min(-1).default(-1);
const nanoseconds = z.int().min(0).default(0);

/**
 * A stream's configuration in JetStream's JSON, with the defaults of a NATS server. Unknown keys
 * are dropped; what is known and not supported is refused by the API part with its own error.
 * Durations are nanoseconds, 0 for none.
 */
export const StreamConfig = z.object({
  name: z.string(),
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
  discard_new_per_subject: z.boolean().default(false),
  storage: z.enum(['file', 'memory']).default('file'),
  num_replicas: z.int().default(1),
  no_ack: z.boolean().default(false),
  duplicate_window: nanoseconds,
  compression: z.enum(['none', 's2']).default('none'),
  sealed: z.boolean().default(false),
  deny_delete: z.boolean().default(false),
  deny_purge: z.boolean().default(false),
  allow_rollup_hdrs: z.boolean().default(false),
  allow_direct: z.boolean().default(false),
  mirror_direct: z.boolean().default(false),
  allow_msg_ttl: z.boolean().default(false),
  subject_delete_marker_ttl: nanoseconds,
  first_seq: z.int().min(0).default(0),
  metadata: z.record(z.string(), z.string()).optional(),
  consumer_limits: z
    .object({ inactive_threshold: nanoseconds, max_ack_pending: z.int().default(0) })
    .partial()
    .optional(),
  // Known, and refused when set.
  mirror: z.unknown().optional(),
  sources: z.array(z.unknown()).optional(),
  republish: z.unknown().optional(),
  subject_transform: z.unknown().optional(),
  placement: z.unknown().optional(),
});
export type StreamConfig = z.output<typeof StreamConfig>;

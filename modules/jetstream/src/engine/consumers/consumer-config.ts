import { z } from 'zod';

const count = z.int().default(0);
const nanoseconds = z.int().default(0);

/**
 * A consumer's configuration in JetStream's JSON. Durations are nanoseconds, times RFC 3339.
 * Unknown keys are an error, as for a server; what is known and not supported is refused by the checks.
 */
export const ConsumerConfig = z.strictObject({
  durable_name: z.string().default(''),
  name: z.string().default(''),
  description: z.string().default(''),
  deliver_policy: z
    .enum(['all', 'last', 'new', 'by_start_sequence', 'by_start_time', 'last_per_subject'])
    .default('all'),
  opt_start_seq: z.int().min(0).default(0),
  opt_start_time: z.string().optional(),
  ack_policy: z.enum(['none', 'all', 'explicit']).default('none'),
  ack_wait: nanoseconds,
  max_deliver: count,
  backoff: z.array(z.int()).default([]),
  filter_subject: z.string().default(''),
  filter_subjects: z.array(z.string()).default([]),
  replay_policy: z.enum(['instant', 'original']).default('instant'),
  rate_limit_bps: z.int().min(0).default(0),
  sample_freq: z.string().default(''),
  max_waiting: count,
  max_ack_pending: count,
  flow_control: z.boolean().default(false),
  headers_only: z.boolean().default(false),
  max_batch: count,
  max_expires: nanoseconds,
  max_bytes: count,
  deliver_subject: z.string().default(''),
  deliver_group: z.string().default(''),
  idle_heartbeat: nanoseconds,
  inactive_threshold: nanoseconds,
  num_replicas: count,
  mem_storage: z.boolean().default(false),
  direct: z.boolean().default(false),
  metadata: z.record(z.string(), z.string()).default({}),
  pause_until: z.string().optional(),
  priority_groups: z.array(z.string()).default([]),
  priority_policy: z.string().default(''),
  priority_timeout: nanoseconds,
});
export type ConsumerConfig = z.output<typeof ConsumerConfig>;

const alwaysShown = new Set(['deliver_policy', 'ack_policy', 'replay_policy', 'num_replicas']);

/** As a server writes it: what is empty is left out. */
export function shownConfig(config: ConsumerConfig): Record<string, unknown> {
  const shown: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(config)) {
    if (alwaysShown.has(key) || !isEmpty(value)) shown[key] = value;
  }
  return shown;
}

function isEmpty(value: unknown): boolean {
  if (value === undefined || value === '' || value === 0 || value === false) return true;
  if (Array.isArray(value)) return value.length === 0;
  return typeof value === 'object' && value !== null && Object.keys(value).length === 0;
}

/** The subject filters; empty for all messages. */
export function filtersOf(config: ConsumerConfig): string[] {
  if (config.filter_subject !== '') return [config.filter_subject];
  return config.filter_subjects;
}

export const isDurable = (config: ConsumerConfig): boolean => config.durable_name !== '';
export const isPush = (config: ConsumerConfig): boolean => config.deliver_subject !== '';

export function sameConfig(a: ConsumerConfig, b: ConsumerConfig): boolean {
  const normal = (config: ConsumerConfig): string =>
    JSON.stringify(Object.entries(shownConfig(config)).sort(([x], [y]) => (x < y ? -1 : 1)));
  return normal(a) === normal(b);
}

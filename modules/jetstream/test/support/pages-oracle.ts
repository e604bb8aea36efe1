/** Fields of nats-server's pages that ours do not have, and why; docs/conat.md shows this table. */
export const leftOut: readonly (readonly [page: string, field: string, why: string])[] = [
  ['/varz', 'auth_required', 'said when all have to show something, not beside `no_auth_user`'],
  ['/varz', 'config_digest', 'settings may come from elsewhere than a file'],
  ['/varz', 'disk_io_wait_stats', 'nobody waits for a place to write'],
  ['/varz', 'feature_flags', 'there are none'],
  [
    '/varz',
    'jetstream.config.sync_interval',
    'each acknowledged message is synced (`sync_always`)',
  ],
  ['/varz', 'jetstream.limits.default_max_consumers', 'there is no such limit'],
  ['/varz', 'system_account', 'there is none'],
  ['/varz', 'tls_timeout', 'the time for TLS is part of `auth_timeout`'],
  ['/varz', 'write_deadline', 'a slow client is known by `max_pending`'],
  ['/jsz', 'config.sync_interval', 'as in `/varz`'],
  ['/jsz', 'limits.default_max_consumers', 'as in `/varz`'],
  ['/jsz', 'account_details[].stream_detail[].cluster', 'streams have no leader'],
];

/** Fields that ours have besides: nats-server leaves them out while they are not set. */
export const besides: readonly (readonly [page: string, field: string])[] = [
  ['/varz', 'max_subscriptions'],
  ['/varz', 'jetstream.config.sync_always'],
  ['/jsz', 'config.sync_always'],
];

/** Names differ there. */
const maps = new Set(['http_req_stats', 'metadata']);

/** Every field of a page with its type; lists are what their entries have. */
export function fieldsOf(page: unknown, at = ''): Map<string, string> {
  const fields = new Map<string, string>();
  if (Array.isArray(page)) {
    for (const entry of page) {
      for (const [field, type] of fieldsOf(entry, `${at}[]`)) fields.set(field, type);
    }
  } else if (typeof page === 'object' && page !== null) {
    for (const [key, value] of Object.entries(page)) {
      const field = at === '' ? key : `${at}.${key}`;
      fields.set(field, kindOf(value));
      if (maps.has(key)) continue;
      for (const [inner, type] of fieldsOf(value, field)) fields.set(inner, type);
    }
  }
  return fields;
}

/** Times and durations are texts of their own form. */
function kindOf(value: unknown): string {
  if (Array.isArray(value)) return 'list';
  if (value === null) return 'null';
  if (typeof value !== 'string') return typeof value;
  if (/^\d{4}-\d\d-\d\dT[\d:.]+Z$/.test(value)) return 'time';
  return /^(\d+(\.\d+)?(d|h|m|s|ms|µs))+$/.test(value) ? 'duration' : 'text';
}

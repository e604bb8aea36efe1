import type { DataSource } from 'typeorm';

/** Asked about in one statement at most. */
const askedAtOnceMax = 1000;

/** Which of these API keys and sessions still open anything. Blocked accounts are not looked at. */
export async function goodCredentials(
  dataSource: DataSource,
  ids: Iterable<string>,
): Promise<Set<string>> {
  const good = new Set<string>();
  const asked = [...new Set(ids)];
  for (let at = 0; at < asked.length; at += askedAtOnceMax) {
    const rows = await dataSource.query<{ id: string }[]>(
      `SELECT id FROM api_keys WHERE id = ANY($1) AND (expires_at IS NULL OR expires_at > now())
       UNION ALL
       SELECT s.id FROM sessions s JOIN api_keys k ON k.id = s.key_id
       WHERE s.id = ANY($1) AND s.expires_at > now()
         AND (k.expires_at IS NULL OR k.expires_at > now())`,
      [asked.slice(at, at + askedAtOnceMax)],
    );
    for (const { id } of rows) good.add(id);
  }
  return good;
}

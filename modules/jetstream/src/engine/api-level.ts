/**
 * The server whose JetStream this is like, as clients see it in metadata and account information.
 * Level 1 (2.11) has per-message TTLs and pausing; level 2 would be counters, atomic batches and
 * schedules, which are refused.
 */
const likeServerVersion = '2.11.0';
export const apiLevel = 1;

const keys = {
  required: '_nats.req.level',
  version: '_nats.ver',
  level: '_nats.level',
} as const;

export type Metadata = Readonly<Record<string, string>>;

/** What is stored: the level that the configuration needs, not who stored it. */
export function storedMetadata(given: Metadata | undefined, requiredLevel: number): Metadata {
  const { [keys.version]: _version, [keys.level]: _level, ...rest } = given ?? {};
  return { ...rest, [keys.required]: String(requiredLevel) };
}

/** What is answered. */
export const shownMetadata = (stored: Metadata | undefined): Metadata => ({
  ...stored,
  [keys.level]: String(apiLevel),
  [keys.version]: likeServerVersion,
});

import { createHash } from 'node:crypto';

/**
 * Owner on disk of what a container's root has made; the container's other ids follow. The same on
 * every host, so that moves and backups need no chown. As which user of the host a container really
 * runs is its {@link IdRange}'s matter.
 */
export const diskRootId = 100_000;

/** The ids of the host that one container's processes have: `firstId` is its root's. */
export interface IdRange {
  readonly firstId: number;
}

/** Where every project's files lie as they are on disk: no mount is mapped, all projects share ids. */
export const sharedRange: IdRange = { firstId: diskRootId };

/** Where a project finds its home. */
export const containerHome = '/root';

/** `docker.io/library/debian:13` → a folder name; readable, and unique by the digest at its end. */
export function overlayKey(imageRef: string): string {
  const digest = createHash('sha256').update(imageRef).digest('hex').slice(0, 12);
  const readable = imageRef.replace(/[^A-Za-z0-9._-]+/g, '_').slice(0, 80);
  return `${readable}-${digest}`;
}

import { createHash } from 'node:crypto';

/** Container root is this unprivileged uid and gid on every host, so moves need no chown. */
export const mappedRootId = 100_000;
export const mappedIdCount = 65_536;

/** Where a project finds its home. */
export const containerHome = '/root';

/** `docker.io/library/debian:13` → a folder name; readable, and unique by the digest at its end. */
export function overlayKey(imageRef: string): string {
  const digest = createHash('sha256').update(imageRef).digest('hex').slice(0, 12);
  const readable = imageRef.replace(/[^A-Za-z0-9._-]+/g, '_').slice(0, 80);
  return `${readable}-${digest}`;
}

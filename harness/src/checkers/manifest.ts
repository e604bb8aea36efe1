/**
 * Checker: content is the same. Hashes, owners, modes, times, xattrs, hard links, sparse files,
 * overlay whiteouts and opaque folders of two trees are compared after a move or a restore.
 */
import { diffManifests, manifestOf, type ManifestEntry } from '@rookery/core/testing';

export { diffManifests, manifestOf, type ManifestEntry };

/** @throws an error that lists what differs. */
export async function expectSameTree(
  expected: readonly ManifestEntry[],
  root: string,
  exclude: readonly string[] = [],
): Promise<void> {
  const differences = diffManifests(expected, await manifestOf(root, { exclude }));
  if (differences.length === 0) return;
  throw new Error(`${root} is not the same as before:\n  ${differences.join('\n  ')}`);
}

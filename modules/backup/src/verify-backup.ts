import { formatBytes, MiB, newId } from '@rookery/core';
import type { BackupFolders, StoredBackup } from './backup.driver.js';
import { BackupErrors } from './backup.errors.js';
import { compareTrees } from './compare-trees.js';
import type { JobTools } from './job-runner.js';
import { bytesOf, fill, stagingVolume, type RestoreDependencies } from './restore.js';

/** Left free on the volume for everybody else while a backup is read back. */
const reserveBytes = 256 * MiB;

/**
 * Restores a backup beside the project as if nothing but the repository were left, and compares
 * every byte with what was backed up. A program may say that all went well although the repository
 * is damaged: a new backup refers to old data that nobody has read since.
 * @param folders what the backup was made of, unchanged since
 * @throws BACKUP_DIFFERS, BACKUP_VERIFY_NO_ROOM, RESTORE_FAILED, REPOSITORY_DAMAGED
 */
export async function verifyBackup(
  parts: RestoreDependencies,
  backup: StoredBackup,
  folders: BackupFolders,
  tools: JobTools,
): Promise<void> {
  const { storage, driver } = parts;
  const needed = (bytesOf(backup) ?? 0) + reserveBytes;
  const { freeBytes } = await storage.space();
  if (freeBytes < needed) {
    const details = { needed: formatBytes(needed), free: formatBytes(freeBytes) };
    throw BackupErrors.BACKUP_VERIFY_NO_ROOM(details);
  }
  const stagingId = newId();
  // Written down before it exists: after a crash it is found and removed.
  await tools.note({ stagingId });
  try {
    const volume = await stagingVolume(parts, stagingId, needed, backup);
    await fill(parts, volume, backup, tools, { fresh: true });
    const restored: BackupFolders = {
      project: volume.paths.root,
      persistence: volume.paths.persistence,
    };
    for (const [name, folder] of Object.entries(folders)) {
      const differences = await compareTrees(folder, restored[name] ?? '', {
        exclude: name === 'project' ? ['.snapshots'] : [],
        signal: tools.signal,
        onCompared: (done) => tools.progress({ step: 'compare', done, unit: 'bytes' }),
      });
      if (differences.length > 0) {
        const details = { differences: differences.join('; '), repository: driver.repository };
        throw BackupErrors.BACKUP_DIFFERS(details);
      }
    }
  } finally {
    await storage.deleteVolume(stagingId);
  }
}

import { CodedError } from '@rookery/core';
import { HubErrors } from '../../hub.errors.js';
import type { ProjectContext } from './common.js';

/** Which backup a restore is of. */
export interface BackupChoice {
  readonly fromProjectId: string;
  readonly backupId: string;
  /** Any will do: the newest that is there. Absent: this one alone. */
  readonly latest?: boolean;
}

/** More than these that are all gone from the repository need a person. */
const triesMax = 20;

/**
 * Restores on a host what its repository still holds. A backup that was forgotten there leaves the
 * index; who asked for the latest gets the next one. A repeated step begins with the first again:
 * the host answers from its journal, or once more that it is gone.
 * @throws BACKUP_GONE
 */
export async function restoring<T>(
  context: ProjectContext,
  hostId: string,
  choice: BackupChoice,
  restore: (backupId: string) => Promise<T>,
): Promise<T> {
  const { records } = context.ports;
  const { fromProjectId: projectId } = choice;
  const tried: string[] = [];
  let backupId = choice.backupId;
  for (;;) {
    try {
      return await restore(backupId);
    } catch (error) {
      if (!CodedError.is(error, 'BACKUP_NOT_FOUND')) throw error;
      tried.push(backupId);
      const dropped = await records.dropBackup(context, hostId, projectId, backupId);
      const next =
        choice.latest === true && tried.length < triesMax
          ? await records.newestBackup(projectId, tried)
          : undefined;
      if (next === undefined && !dropped) throw error;
      if (next === undefined) throw HubErrors.BACKUP_GONE({ backupId, projectId });
      backupId = next;
    }
  }
}

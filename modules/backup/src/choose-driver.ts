import { access } from 'node:fs/promises';
import { CoreErrors, SystemExec, type Exec } from '@rookery/core';
import type { BackupDriver } from './backup.driver.js';
import type { RepositoryOptions } from './repository-program.js';
import { ResticDriver } from './restic.driver.js';
import { RusticDriver } from './rustic.driver.js';

export interface BackupDriverOptions extends RepositoryOptions {
  /** `auto` prefers rustic where it is installed. */
  readonly driver?: 'auto' | 'restic' | 'rustic';
}

/**
 * The driver that was asked for, or the best that this machine has.
 * @throws COMMAND_MISSING when there is none, INVALID_CONFIG when the password file is not there.
 */
export async function chooseBackupDriver(
  { driver = 'auto', ...options }: BackupDriverOptions,
  exec: Exec = new SystemExec(),
): Promise<BackupDriver> {
  await access(options.passwordFile).catch((cause: unknown) => {
    const reason = `the backup password file ${options.passwordFile} cannot be read`;
    throw CoreErrors.INVALID_CONFIG({ reason }, { cause });
  });
  const candidates: BackupDriver[] = [];
  if (driver !== 'restic') candidates.push(new RusticDriver(options, exec));
  if (driver !== 'rustic') candidates.push(new ResticDriver(options, exec));
  for (const candidate of candidates) if (await candidate.available()) return candidate;
  throw CoreErrors.COMMAND_MISSING({ command: candidates.map(({ name }) => name).join(' or ') });
}

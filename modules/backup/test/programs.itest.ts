import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it } from '@jest/globals';
import { ResticDriver, RusticDriver } from '@rookery/backup';
import { backupDriverConformance } from '@rookery/backup/testing';
import type { BackupDriver } from '@rookery/backup';

const repositoryIn = async (folder: string) => {
  const passwordFile = join(folder, 'password');
  await writeFile(passwordFile, 'correct horse\n', { mode: 0o600 });
  return { repository: join(folder, 'repository'), passwordFile, workFolder: join(folder, 'work') };
};
const subject = (driver: BackupDriver) => ({ driver, dispose: async () => undefined });

backupDriverConformance('restic', async (folder) =>
  subject(new ResticDriver(await repositoryIn(folder))),
);

const nowhere = { repository: '/none', passwordFile: '/none', workFolder: '/none' };
if (await new RusticDriver(nowhere).available()) {
  backupDriverConformance('rustic', async (folder) =>
    subject(new RusticDriver(await repositoryIn(folder))),
  );
} else {
  describe('backup driver rustic', () => {
    it.skip('is not tried: the program rustic is not installed here', () => undefined);
  });
}

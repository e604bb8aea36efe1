import { backupDriverConformance, MemoryBackupDriver } from '@rookery/backup/testing';

backupDriverConformance('memory', async () => {
  const driver = new MemoryBackupDriver();
  return { driver, dispose: () => driver[Symbol.asyncDispose]() };
});

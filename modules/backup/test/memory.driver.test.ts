import * as jest from '@jest/globals';
import { backupDriverConformance, MemoryBackupDriver } from '@rookery/backup/testing';

backupDriverConformance('memory', jest, async () => {
  const driver = new MemoryBackupDriver();
  return { driver, dispose: () => driver[Symbol.asyncDispose]() };
});

export { backupDriverConformance, type BackupDriverSubject } from './backup-driver.conformance.js';
export { MemoryBackupDriver } from './memory.driver.js';
export { MemoryBackupJournal, MemoryBackupProjects } from './memory-ports.js';

export {
  BackupDriver,
  type BackupFolders,
  type BackupRequest,
  type BackupSummary,
  type RestoreRequest,
  type StoredBackup,
} from './backup.driver.js';
export { BackupErrors } from './backup.errors.js';
export { backupOptions, BackupModule, type BackupModuleOptions } from './backup.module.js';
export {
  BackupJournal,
  BackupProjects,
  type BackupJob,
  type BackupJobKind,
  type BackupJobState,
  type BackupDependencies,
} from './backup.ports.js';
export { BackupService } from './backup.service.js';
export { chooseBackupDriver, type BackupDriverOptions } from './choose-driver.js';
export { ResticDriver, type ResticOptions } from './restic.driver.js';
export { RusticDriver, type RusticOptions } from './rustic.driver.js';

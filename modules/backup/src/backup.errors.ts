import { catalogue } from '@rookery/core';

export const BackupErrors = catalogue('backup', {
  BACKUP_NOT_FOUND: {
    status: 404,
    message:
      'There is no such backup in {repository}. `rookery backup list` shows those that there are.',
  },
  BACKUP_IN_PROGRESS: {
    status: 409,
    message:
      'A backup or restore of project {projectId} is under way. Try again when it has ended.',
    retryable: true,
  },
  BACKUP_FAILED: {
    status: 500,
    message: 'The backup failed: {reason}. Nothing was added to the repository.',
    retryable: true,
  },
  BACKUP_TIMEOUT: {
    status: 504,
    message:
      'The backup or restore took longer than {limit} and was ended. Nothing was changed. Raise ROOKERY_BACKUP_HOURS of the host if that much time is needed.',
  },
  BACKUP_HOLES_TOO_MANY: {
    status: 422,
    message:
      'The project has {files} files with holes; of those beyond {filesMax} the holes make {holes}, which would be read as zeros. Remove some of them, or put them into one archive.',
  },
  BACKUP_HOLES_NO_ROOM: {
    status: 507,
    message:
      'For the backup the data of files with holes is copied to {folder}, which takes {needed} and has {free} free. Free space on the host, or move the project to another.',
    retryable: true,
  },
  BACKUP_INTERRUPTED: {
    status: 503,
    message: 'The host restarted while the backup or restore was under way. Run it again.',
    retryable: true,
  },
  BACKUP_CONTENT_INVALID: {
    status: 422,
    message: 'The backup {backupId} does not hold what a backup of a project holds: {reason}.',
  },
  BACKUP_DIFFERS: {
    status: 500,
    message:
      'The new backup does not hold what was backed up ({differences}). It was dropped; nothing else was removed. Check the repository {repository}.',
  },
  BACKUP_VERIFY_NO_ROOM: {
    status: 507,
    message:
      'Reading the backup back needs {needed} on this host, which has {free} free. Free space, or move the project to another host first.',
  },
  BACKUP_PATH_NOT_FOUND: {
    status: 404,
    message: 'The backup {backupId} holds no path {path}.',
  },
  REPOSITORY_UNREACHABLE: {
    status: 503,
    message: 'The backup repository {repository} cannot be reached: {reason}. Check its address.',
    retryable: true,
  },
  REPOSITORY_MISSING: {
    status: 503,
    message:
      'There is no backup repository at {repository}. If its disk is not mounted, mount it. Only "rookery backup init HOST" makes a new, empty one.',
    retryable: true,
  },
  REPOSITORY_CHANGED: {
    status: 409,
    message:
      'At {repository} lies another backup repository ({found}) than this host has used so far ({known}). Bring that one back, or accept this one with "rookery backup init HOST --adopt".',
  },
  REPOSITORY_PASSWORD: {
    status: 500,
    message: 'The password file does not open the backup repository {repository}.',
  },
  REPOSITORY_LOCKED: {
    status: 503,
    message: 'Someone else keeps the backup repository {repository} locked. Try again later.',
    retryable: true,
  },
  REPOSITORY_READ_ONLY: {
    status: 500,
    message:
      'The backup repository {repository} can only be read: {reason}. Make it writable for this host and run it again.',
  },
  REPOSITORY_FULL: {
    status: 507,
    message: 'The backup repository {repository} has no room left. Make room and run it again.',
    retryable: true,
  },
  REPOSITORY_DAMAGED: {
    status: 500,
    message: 'The backup repository {repository} is damaged: {reason}',
  },
  RESTORE_FAILED: {
    status: 500,
    message: 'The restore failed: {reason}. What was there before is unchanged.',
    retryable: true,
  },
  RESTORE_GIVEN_UP: {
    status: 409,
    message: 'This restore was given up. Start a new one.',
  },
  RESTORE_DISK_FULL: {
    status: 507,
    message: 'The host has too little room to restore the backup. Choose another host.',
  },
  RESTORE_NEEDS_DISCARD: {
    status: 409,
    message:
      'What project {projectId} holds now cannot be kept: {reason}. Restore it as a new project, or with --discard: then only snapshots that are locked stay.',
  },
  RESTORE_TARGET_EXISTS: {
    status: 409,
    message:
      'Project {projectId} has a volume on this host. Ask for it to be replaced, or restore as new.',
  },
});

/** Injection tokens of what has no class of its own. */
export const LOGGER = Symbol('LOGGER');
export const IDENTITY = Symbol('HOST_IDENTITY');
export const BACKUP_DRIVER = Symbol('BACKUP_DRIVER');
export const BACKUPS = Symbol('BACKUPS');

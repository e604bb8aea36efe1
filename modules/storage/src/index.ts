export { BtrfsStorageDriver } from './btrfs.driver.js';
export { StorageErrors } from './storage.errors.js';
export { StorageOptions, type ResolvedStorageOptions } from './storage.options.js';
export { containerIdCount, containerRootId } from './layout.js';

export { spaceAccount, rootAccount, type JetStreamAccount } from './account.js';
export { AccountDirectory, RootAccountDirectory } from './account-directory.js';
export { openAccounts } from './open-accounts.js';
export { JetStream, type JetStreamOptions } from './jetstream.js';
export type { AccountStatus } from './account-binding.js';
export { JetStreamErrors } from './jetstream.errors.js';

import type { AccountStore } from '../jetstream/engine/account-store.js';
import { SqliteAccountStore } from '../jetstream/store/sqlite-account.store.js';

/** An account's store; `:memory:` keeps nothing and is quick. */
export const openTestStore = (file = ':memory:'): AccountStore => new SqliteAccountStore(file);

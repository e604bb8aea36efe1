import type { AccountStore } from '../engine/account-store.js';
import { SqliteAccountStore } from '../store/sqlite-account.store.js';

/** An account's store; `:memory:` keeps nothing and is quick. */
export const openTestStore = (file = ':memory:'): AccountStore => new SqliteAccountStore(file);

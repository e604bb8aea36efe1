import type { ServerUser } from '../auth/users-authenticator.js';
import type { BrokerLimitsInput } from '../broker/limits.js';
import type { JetStreamQuota } from '../persistence.js';
import { named, type SettingValue } from './conf-reader.js';
import { readPermissions, readUsers } from './users.js';

/** An account of the file: subjects of its own, and streams when it may have them. */
export interface AccountConfig {
  readonly name: string;
  /** Of the account: connections; of each connection: subscriptions, payload. */
  readonly limits: BrokerLimitsInput;
  /** Null: JetStream is not for it. */
  readonly quota: JetStreamQuota | null;
}

type Writable<T> = { -readonly [key in keyof T]: T[key] };

/** A name that is one subject token and the name of a file. */
const nameForm = /^[A-Za-z0-9_-]{1,100}$/;
/** Those that nats-server makes by itself. */
const ownNames = ['$G', '$SYS'];

/** `accounts { A { users, jetstream, limits, default_permissions }, … }`. */
export function readAccounts(block: SettingValue): {
  accounts: AccountConfig[];
  users: ServerUser[];
} {
  const users: ServerUser[] = [];
  const accounts = block.named().map((entry) => {
    const { account, users: own } = readAccount(entry);
    users.push(...own);
    return account;
  });
  return { accounts, users };
}

function readAccount(entry: SettingValue): { account: AccountConfig; users: ServerUser[] } {
  const name = entry.path.slice(entry.path.indexOf('.') + 1);
  if (ownNames.includes(name)) throw entry.wrong('is an account that cannot be set up here');
  if (!nameForm.test(name)) throw entry.wrong('must be a name of letters, digits, - and _');
  let users: ServerUser[] = [];
  let permissions: ServerUser['permissions'];
  let limits: BrokerLimitsInput = {};
  let quota: JetStreamQuota | null = null;
  entry.each({
    users: (value) => (users = readUsers(value)),
    ...named(['default_permissions', 'default_permission'], (value) => {
      permissions = readPermissions(value);
    }),
    jetstream: (value) => (quota = readQuota(value)),
    limits: (value) => (limits = readLimits(value)),
  });
  return {
    account: { name, limits, quota },
    users: users.map((user) => ({ ...(permissions && { permissions }), ...user, account: name })),
  };
}

function readQuota(value: SettingValue): JetStreamQuota | null {
  if (!value.isMap) {
    if (value.raw === true || value.raw === 'enabled' || value.raw === 'enable') return {};
    if (value.raw === false || value.raw === 'disabled' || value.raw === 'disable') return null;
    throw value.wrong('must be enabled, disabled or a block with limits');
  }
  const quota: Writable<JetStreamQuota> = {};
  value.each({
    ...named(['max_memory', 'max_mem', 'mem', 'memory'], (max) => {
      setLimit(max, (bytes) => (quota.memoryBytesMax = bytes));
    }),
    ...named(['max_store', 'max_file', 'max_disk', 'store', 'disk'], (max) => {
      setLimit(max, (bytes) => (quota.storageBytesMax = bytes));
    }),
    ...named(['max_streams', 'streams'], (max) => {
      setLimit(max, (streams) => (quota.streamsMax = streams));
    }),
    ...named(['max_consumers', 'consumers'], (max) => {
      setLimit(max, (consumers) => (quota.consumersMax = consumers));
    }),
  });
  return quota;
}

/** -1 is no limit, as there. */
function setLimit(value: SettingValue, set: (limit: number) => void): void {
  if (value.raw !== -1) set(value.count());
}

function readLimits(block: SettingValue): BrokerLimitsInput {
  const limits: Writable<BrokerLimitsInput> = {};
  block.each({
    ...named(['max_connections', 'max_conn'], (value) => {
      limits.connectionsMax = value.count(1);
      limits.connectionsPerIdentityMax = limits.connectionsMax;
      limits.connectionsPerAddressMax = limits.connectionsMax;
    }),
    ...named(['max_subscriptions', 'max_subs'], (value) => {
      limits.subscriptionsPerConnectionMax = value.count(1);
    }),
    ...named(['max_payload', 'max_pay'], (value) => (limits.payloadBytesMax = value.count(1))),
  });
  return limits;
}

import { join } from 'node:path';
import { UsersAuthenticator } from '../auth/users-authenticator.js';
import { Broker } from '../broker/broker.js';
import { rootAccount } from '../jetstream/account.js';
import { RootAccountDirectory } from '../jetstream/account-directory.js';
import type { JetStream } from '../jetstream/jetstream.js';
import type { AccountConfig } from './accounts.js';
import type { ServerConfig } from './server-config.js';

/** The broker that a configuration describes, with the spaces of its accounts. */
export function configuredBroker(config: ServerConfig, name: string): Broker {
  const broker = new Broker({
    authenticator: new UsersAuthenticator(config.users),
    name: config.name ?? name,
    limits: config.limits,
  });
  for (const account of config.accounts) broker.addAccount(account.name, account.limits);
  return broker;
}

/**
 * Opens the streams of all accounts of a configuration in one folder, each in a file of its own:
 * `conat.sqlite` of the broker's own space, `account-<name>.sqlite` of the others. As with
 * nats-server the own space has JetStream when there are no accounts.
 */
export async function openAccounts(
  jetStream: JetStream,
  broker: Broker,
  folder: string,
  accounts: readonly AccountConfig[],
): Promise<void> {
  // It makes the folder.
  const own = await new RootAccountDirectory(folder).list();
  if (accounts.length === 0) await jetStream.start(own);
  else jetStream.refuse(broker);
  for (const { name, quota } of accounts) {
    const space = broker.space(name)!;
    if (!quota) {
      jetStream.refuse(space);
      continue;
    }
    const account = rootAccount(name, join(folder, `account-${name}.sqlite`), quota);
    await jetStream.open(account, { broker: space });
  }
}

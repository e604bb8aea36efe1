import { join } from 'node:path';
import type { AccountConfig, Broker } from '@rookery/conat';
import { rootAccount } from './account.js';
import { RootAccountDirectory } from './account-directory.js';
import type { JetStream } from './jetstream.js';

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
  if (accounts.length === 0) for (const account of own) await jetStream.open(account);
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

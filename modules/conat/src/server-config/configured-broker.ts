import { UsersAuthenticator } from '../auth/users-authenticator.js';
import { Broker } from '../broker/broker.js';
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

/**
 * A control network in one process: a hub that answers where projects are, and an account that asks.
 * Who may say what is cut from the identity; a stranger's project is refused.
 */
import { Broker, ConatClient } from '@rookery/conat';
import { CodedError, createLogger, newId } from '@rookery/core';
import { accountPermissions, NetworkAuthenticator, type ProjectAccess } from '@rookery/fleet';
import { identityNames, projectRoutes, projectSpaceRoot } from '@rookery/fleet/contract';
import { createServiceClient, serve } from '@rookery/rpc';

/** Known by one token; a hub asks its database. */
class Network extends NetworkAuthenticator {
  constructor(
    private readonly user: string,
    private readonly projects: readonly ProjectAccess[],
  ) {
    super({ hubSecret: 'secret of the hub' });
  }

  override async authenticate(request: Parameters<NetworkAuthenticator['authenticate']>[0]) {
    if (request.options.auth_token !== 'token of the account') return super.authenticate(request);
    return {
      name: identityNames.account(this.user),
      permissions: accountPermissions(this.user, this.projects),
    };
  }
}

/** @returns where the account's project is, and what it hears of somebody else's */
export async function whereIs(): Promise<{ urls: string[]; stranger: string | undefined }> {
  const [account, projectId, hostId] = [newId(), newId(), newId()];
  const authenticator = new Network(account, [{ projectId, role: 'owner' }]);
  const broker = new Broker({ authenticator, spaceRoot: projectSpaceRoot });
  const hub = await ConatClient.connect({
    servers: broker,
    identity: identityNames.hub,
    credentials: { user: identityNames.hub, password: 'secret of the hub' },
  });
  const user = await ConatClient.connect({
    servers: broker,
    identity: identityNames.account(account),
    credentials: { token: 'token of the account' },
    logger: createLogger('account', 'silent'),
  });
  const resolve = async () => ({
    projectId,
    hostId,
    generation: 1,
    urls: ['wss://host-1.example/conat'],
  });
  const server = await serve(hub, projectRoutes, { resolve }, { params: { projectId } });
  try {
    const { urls } = await createServiceClient(user, projectRoutes, { projectId }).resolve({});
    const others = createServiceClient(user, projectRoutes, { projectId: newId() });
    const error: unknown = await others.resolve({}).catch((reason: unknown) => reason);
    return { urls, stranger: error instanceof CodedError ? error.code : undefined };
  } finally {
    await server.close();
    await Promise.all([user.close(), hub.close()]);
  }
}

import { Authenticator, type ConatIdentity, type ConnectRequest } from '@rookery/conat';
import {
  accountPermissions,
  hubPermissions,
  projectIdentity,
  type ProjectAccess,
} from '../auth/permissions.js';
import { identityNames } from '../contract/identities.js';

/**
 * Takes a word for a token: `project:<id>` is rooted in that project, `account:<id>` is an account
 * with the roles that the test gave it, `hub` may do everything.
 */
export class ProjectTokenAuthenticator extends Authenticator {
  constructor(private readonly roles: Readonly<Record<string, readonly ProjectAccess[]>> = {}) {
    super();
  }

  async authenticate({ options }: ConnectRequest): Promise<ConatIdentity | null> {
    const [kind, id = ''] = (options.auth_token ?? '').split(':');
    if (kind === 'hub') return { name: identityNames.hub, permissions: hubPermissions() };
    if (kind === 'project' && id !== '') return projectIdentity(id);
    const projects = this.roles[id];
    if (kind !== 'account' || !projects) return null;
    return { name: identityNames.account(id), permissions: accountPermissions(id, projects) };
  }
}

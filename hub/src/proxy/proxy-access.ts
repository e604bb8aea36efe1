import { Injectable, OnModuleInit } from '@nestjs/common';
import { HubProxy, TokenSource, type ConnectionFilter } from '@rookery/proxy';
import { AccessChanges, type AccessChange } from '../access/access-changes.js';
import { HubRequestAuthenticator, HubRouteResolver } from './hub-routes.js';

/** Drops what the proxy remembers, and has it look again whether who holds a connection may. */
@Injectable()
export class ProxyAccess implements OnModuleInit {
  constructor(
    private readonly changes: AccessChanges,
    private readonly authenticator: HubRequestAuthenticator,
    private readonly routes: HubRouteResolver,
    private readonly tokens: TokenSource,
    private readonly proxy: HubProxy,
  ) {}

  onModuleInit(): void {
    this.changes.onChange((change) => void this.proxy.recheckAccess(this.forget(change)));
  }

  /** @returns which connections are concerned */
  private forget(change: AccessChange): ConnectionFilter {
    switch (change.kind) {
      case 'host':
        this.routes.forget();
        return {};
      case 'credentials':
        this.authenticator.forget();
        return { subject: `account:${change.accountId}` };
      case 'rights': {
        const { projectId, accountId } = change;
        this.routes.forget(projectId);
        this.tokens.forget(projectId);
        return { projectId, ...(accountId !== undefined && { subject: `account:${accountId}` }) };
      }
      case 'all':
        this.authenticator.forget();
        this.routes.forget();
        this.tokens.forget();
        return {};
    }
  }
}

import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Confinement } from '../http/headers.js';
import type { OriginSessions, Principal, RequestAuthenticator } from '../hub/hub-proxy.ports.js';
import { originForm } from '../http/request-line.js';
import { parseOriginPath, type ProjectPath } from '../project-path.js';
import { ProxyErrors } from '../proxy.errors.js';
import { isNavigation, isOwnRequest, isVisit } from './browser-request.js';
import { OriginSignIn, reservedPath } from './origin-sign-in.js';
import type { ProjectOrigins } from './project-origins.js';

export interface OriginAccess {
  readonly names: ProjectOrigins;
  readonly sessions: OriginSessions;
}

const nobody: Principal = {};

/**
 * What the hub lets browsers do. A page that a project serves runs with the rights of its origin, so
 * it gets one of its own; on the hub's origin its answers go to programs alone, and a browser that
 * comes there with nothing but a cookie is nobody.
 */
export class BrowserAccess {
  private readonly signIn: OriginSignIn | undefined;

  constructor(
    private readonly authenticator: RequestAuthenticator,
    private readonly pathOrigin: 'own' | 'shared',
    private readonly access: OriginAccess | undefined,
  ) {
    this.signIn = access && new OriginSignIn(access.names, access.sessions);
  }

  /** True for every name below the domain of projects: nothing of the hub's is served there. */
  matches(host: string | undefined): boolean {
    return this.access !== undefined && this.access.names.nameOf(host).kind !== 'other';
  }

  /** @returns undefined for an address on the hub's own origin. @throws PROXY_ADDRESS_UNKNOWN */
  locate(req: IncomingMessage, host: string | undefined): ProjectPath | undefined {
    const name = this.access?.names.nameOf(host);
    if (name === undefined || name.kind === 'other') return undefined;
    if (name.kind === 'foreign') throw ProxyErrors.PROXY_ADDRESS_UNKNOWN();
    return parseOriginPath(name.projectId, name.port, originForm(req.url));
  }

  /** @throws PROXY_ADDRESS_UNKNOWN for a WebSocket where nothing of a project's is */
  checkUpgrade(path: ProjectPath): void {
    if (path.mode === 'origin' && path.upstreamUrl.startsWith(reservedPath)) {
      throw ProxyErrors.PROXY_ADDRESS_UNKNOWN();
    }
  }

  /** Who sends it; nobody when all that says so is a cookie that any page could have sent along. */
  principalOf(req: IncomingMessage, path: ProjectPath): Promise<Principal> | Principal {
    const asked = this.authenticator.authenticate(req, path);
    if (asked instanceof Promise) return asked.then((found) => this.believed(found, req, path));
    return this.believed(asked, req, path);
  }

  /**
   * Answers what never reaches a project: the reserved paths of its origin, and browsers that would
   * show its page on the hub's. @returns true when it was answered
   * @throws PROXY_ORIGIN_REQUIRED, PROXY_SIGN_IN_FAILED, PROXY_ADDRESS_UNKNOWN
   */
  answer(req: IncomingMessage, res: ServerResponse, path: ProjectPath): boolean | Promise<boolean> {
    if (path.mode === 'origin') {
      if (!path.upstreamUrl.startsWith(reservedPath) || !this.signIn) return false;
      return this.signIn.answer(req, res, path).then(() => true);
    }
    if (this.pathOrigin === 'shared' || !isNavigation(req)) return false;
    if (!this.access || !isVisit(req)) throw this.originRequired(path);
    const location = `${this.originOf(path)}${path.fullUrl.slice(path.base.length - 1)}`;
    res.writeHead(302, {
      location,
      'cache-control': 'no-store',
      vary: 'Accept, Sec-Fetch-Mode, Sec-Fetch-Dest',
      'referrer-policy': 'no-referrer',
      'content-length': 0,
    });
    res.end();
    return true;
  }

  /** True for somebody who opens a project's origin without being signed in there. */
  wouldSignIn(req: IncomingMessage, path: ProjectPath, principal: Principal): boolean {
    return path.mode === 'origin' && principal.accountId === undefined && isVisit(req);
  }

  /** Sends a browser to the hub, which finds out who it is. */
  signInAt(req: IncomingMessage, res: ServerResponse, path: ProjectPath): void {
    this.signIn?.begin(req, res, path);
  }

  confinementOf(path: ProjectPath): Confinement {
    const ownOrigin = path.mode === 'origin';
    return {
      projectId: path.projectId,
      base: path.base,
      stripped: false,
      ownOrigin,
      sandboxed: !ownOrigin && this.pathOrigin === 'own',
    };
  }

  private believed(principal: Principal, req: IncomingMessage, path: ProjectPath): Principal {
    switch (principal.via) {
      case 'cookie':
        return path.mode !== 'origin' && this.pathOrigin === 'shared' ? principal : nobody;
      case 'origin':
        return this.access && isOwnRequest(req, this.access.names, path.projectId)
          ? principal
          : nobody;
      default:
        return principal;
    }
  }

  private originOf({ projectId, port }: ProjectPath): string | undefined {
    return this.access?.names.originOf(projectId, port);
  }

  private originRequired(path: ProjectPath): Error {
    const origin = this.originOf(path);
    const advice =
      origin === undefined
        ? 'The operator has to name a domain for them (ROOKERY_APPS_URL).'
        : `Open ${origin}/.`;
    return ProxyErrors.PROXY_ORIGIN_REQUIRED({ advice, url: origin });
  }
}

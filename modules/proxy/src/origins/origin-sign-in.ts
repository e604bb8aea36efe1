import type { IncomingMessage, ServerResponse } from 'node:http';
import { newSecret } from '@rookery/core';
import { cookiesNamed } from '../http/cookies.js';
import type { OriginSessions } from '../hub/hub-proxy.ports.js';
import type { ProjectPath } from '../project-path.js';
import { ProxyErrors } from '../proxy.errors.js';
import { isVisit } from './browser-request.js';
import type { ProjectOrigins } from './project-origins.js';

/** Paths of a project's origin that are ours; nothing below it reaches the project. */
export const reservedPath = '/.rookery/';
/** Where the hub sends a browser back to, with `?code=`. */
export const redeemPath = `${reservedPath}session`;
const stateSeconds = 600;
const statePattern = /^state_[A-Za-z0-9_-]{43}$/;
/** A longer path is not kept over a sign-in. */
const nextCharsMax = 2000;

/** Names of our cookies on a project's origin. */
export const sessionCookieOf = (origins: ProjectOrigins): string =>
  origins.secure ? '__Host-rookery_app' : 'rookery_app';
const stateCookieOf = (origins: ProjectOrigins): string =>
  origins.secure ? '__Host-rookery_state' : 'rookery_state';

/**
 * Signs a browser in to a project's origin. The origin keeps a random state in a cookie and sends
 * the browser to the hub; the hub, which knows the person, gives it a code for this account,
 * project, port and state; the origin takes the code once, from the browser that has the state, and
 * leaves a cookie of its own. So nobody can be signed in as somebody else by a link.
 */
export class OriginSignIn {
  constructor(
    private readonly origins: ProjectOrigins,
    private readonly sessions: OriginSessions,
  ) {}

  /** Sends somebody who opens the origin to the hub. */
  begin(req: IncomingMessage, res: ServerResponse, path: ProjectPath): void {
    const state = this.stateOf(req) ?? newSecret('state');
    const { projectId, port, upstreamUrl } = path;
    const next = upstreamUrl.length > nextCharsMax ? '/' : upstreamUrl;
    redirect(res, this.sessions.signInUrl({ projectId, port, next, state }), [
      this.cookie(stateCookieOf(this.origins), state, stateSeconds),
    ]);
  }

  /**
   * Answers what is asked of the reserved paths.
   * @throws PROXY_SIGN_IN_FAILED, PROXY_ADDRESS_UNKNOWN
   */
  async answer(req: IncomingMessage, res: ServerResponse, path: ProjectPath): Promise<void> {
    const [pathname, query = ''] = path.upstreamUrl.split('?', 2);
    if (pathname !== redeemPath || !isVisit(req)) throw ProxyErrors.PROXY_ADDRESS_UNKNOWN();
    const code = new URLSearchParams(query).get('code') ?? '';
    const state = this.stateOf(req);
    const { projectId, port } = path;
    const session =
      state === undefined
        ? undefined
        : await this.sessions.redeem({ code, state, projectId, port });
    // A code whose answer was lost, or a link of somebody else's: this browser asks for its own.
    if (!session && state !== undefined) return this.begin(req, res, { ...path, upstreamUrl: '/' });
    if (!session) throw ProxyErrors.PROXY_SIGN_IN_FAILED();
    const { secret, next, maxAgeSeconds } = session;
    redirect(res, ownPath(next), [
      this.cookie(sessionCookieOf(this.origins), secret, maxAgeSeconds),
      this.cookie(stateCookieOf(this.origins), '', 0),
    ]);
  }

  private stateOf(req: IncomingMessage): string | undefined {
    const [state, another] = cookiesNamed(req.headers.cookie, stateCookieOf(this.origins));
    if (state === undefined || another !== undefined) return undefined;
    return statePattern.test(state) ? state : undefined;
  }

  private cookie(name: string, value: string, maxAgeSeconds: number): string {
    const secure = this.origins.secure ? '; Secure' : '';
    return `${name}=${value}; Path=/; Max-Age=${maxAgeSeconds}; HttpOnly; SameSite=Lax${secure}`;
  }
}

/** Where to go on: within this origin, and not in a circle. */
const ownPath = (next: string): string =>
  /^\/(?![/\\])[\x21-\x7e]*$/.test(next) && !next.startsWith(reservedPath) ? next : '/';

function redirect(res: ServerResponse, location: string, cookies: string[]): void {
  res.writeHead(303, {
    location,
    'set-cookie': cookies,
    'cache-control': 'no-store',
    'referrer-policy': 'no-referrer',
    'content-length': 0,
  });
  res.end();
}

import type { IncomingMessage } from 'node:http';
import { Inject, Injectable } from '@nestjs/common';
import { cookiesNamed, TrustedProxies } from '@rookery/proxy';
import type { Response } from 'express';
import { HUB_CONFIG, type HubConfig } from '../config/config.js';
import { HubErrors } from '../hub.errors.js';
import { sessionSeconds } from './login.service.js';

const plainName = 'rookery_session';

/**
 * The cookie that signs a browser in to the hub's own pages, and to nothing else: the API, the
 * messaging and projects do not take it.
 *
 * Over HTTPS its name begins with `__Host-`: browsers take such a cookie from this very host alone,
 * so no neighbour of the same domain can put another one in its place.
 */
@Injectable()
export class SessionCookie {
  constructor(
    private readonly trusted: TrustedProxies,
    @Inject(HUB_CONFIG) private readonly config: HubConfig,
  ) {}

  /** The session's secret. Of two cookies of the name one is a neighbour's: neither counts. */
  read(request: IncomingMessage): string | undefined {
    const [value, another] = cookiesNamed(request.headers.cookie, this.nameFor(request));
    return another === undefined ? value : undefined;
  }

  set(response: Response, session: string): void {
    response.cookie(this.nameFor(response.req), session, {
      ...this.attributes(response.req),
      maxAge: sessionSeconds * 1000,
    });
  }

  clear(response: Response): void {
    response.clearCookie(this.nameFor(response.req), this.attributes(response.req));
  }

  /**
   * A cookie is sent by every page of the world; SameSite=Lax keeps most of them out and this the
   * rest (those of the same site, where projects may live).
   * @throws CSRF_REFUSED
   */
  refuseForeignChange(request: IncomingMessage): void {
    const { origin } = request.headers;
    const site = request.headers['sec-fetch-site'];
    const own = this.trusted.clientOf(request).host;
    const ownOrigin = origin !== undefined && URL.parse(origin)?.host === own;
    const trusted = site === undefined ? ownOrigin : site === 'same-origin' && origin !== 'null';
    if (!trusted || (origin !== undefined && !ownOrigin)) throw HubErrors.CSRF_REFUSED();
  }

  /** Whether somebody typed the address or came from the hub's own pages: no other page led here. */
  isOwnVisit({ headers }: IncomingMessage): boolean {
    const site = headers['sec-fetch-site'];
    // Browsers that say nothing cannot be told from each other; programs show no pages.
    if (site === undefined) return !(headers.accept ?? '').includes('text/html');
    return site === 'none' || site === 'same-origin';
  }

  private isSecure(request: IncomingMessage): boolean {
    if (this.config.publicUrl.startsWith('https:')) return true;
    return this.trusted.clientOf(request).scheme === 'https';
  }

  private nameFor(request: IncomingMessage): string {
    return this.isSecure(request) ? `__Host-${plainName}` : plainName;
  }

  private attributes(request: IncomingMessage) {
    const secure = this.isSecure(request);
    return { httpOnly: true, sameSite: 'lax' as const, path: '/', secure };
  }
}

import { Controller, Get, Inject, Optional, Req, Res } from '@nestjs/common';
import { parseInput } from '@rookery/core';
import { Port, ProjectId } from '@rookery/core/contract';
import { ProjectOrigins, ProxyErrors, redeemPath } from '@rookery/proxy';
import type { Request, Response } from 'express';
import { z } from 'zod';
import { AuthService, type Caller } from '../accounts/auth.service.js';
import { SessionCookie } from '../accounts/session-cookie.js';
import { HubErrors } from '../hub.errors.js';
import { HubOriginSessions } from '../proxy/hub-origin-sessions.js';
import { HubRouteResolver } from '../proxy/hub-routes.js';
import { OwnPath } from './own-path.js';

const Asked = z.object({
  project: ProjectId,
  port: z.coerce.number().pipe(Port),
  next: OwnPath,
  state: z
    .string()
    .regex(/^state_[A-Za-z0-9_-]{43}$/)
    .optional(),
});

/** The way to a project's own origin, for a browser that is signed in here. */
@Controller()
export class OpenController {
  constructor(
    private readonly cookie: SessionCookie,
    private readonly auth: AuthService,
    private readonly routes: HubRouteResolver,
    private readonly sessions: HubOriginSessions,
    @Optional() @Inject(ProjectOrigins) private readonly origins?: ProjectOrigins,
  ) {}

  /** Gives a code to the origin that asks with a state; sends everybody else there to ask. */
  @Get('/open')
  async open(@Req() request: Request, @Res() response: Response): Promise<void> {
    refuseFrames(request);
    const { project, port, next, state } = parseInput(Asked, request.query);
    if (!this.origins) {
      const advice = 'The operator has to name a domain for them (ROOKERY_APPS_URL).';
      throw ProxyErrors.PROXY_ORIGIN_REQUIRED({ advice });
    }
    const origin = this.origins.originOf(project, port);
    response.set({ 'cache-control': 'no-store', 'referrer-policy': 'no-referrer' });
    const secret = this.cookie.read(request);
    const caller = secret === undefined ? undefined : await this.auth.bySession(secret);
    if (!caller) {
      response.redirect(303, `/login?next=${encodeURIComponent(request.originalUrl)}`);
    } else if (state === undefined) {
      response.redirect(303, `${origin}${next}`);
    } else {
      await this.requireAccess(caller, project, port);
      const asked = { projectId: project, port, next, state };
      const code = await this.sessions.createCode(caller, asked);
      response.redirect(303, `${origin}${redeemPath}?code=${code}`);
    }
  }

  /** A project of others is as unknown as none at all. @throws PROJECT_UNKNOWN */
  private async requireAccess(caller: Caller, id: string, port: number): Promise<void> {
    const route = await this.routes.resolve(id);
    const role = await route?.roleOf({ accountId: caller.accountId });
    if (role === undefined && route?.publicPorts.includes(port) !== true) {
      throw HubErrors.PROJECT_UNKNOWN({ id });
    }
  }
}

/** Who sees a sign-in happen in a frame could steer what follows. @throws OPEN_REFUSED */
function refuseFrames({ headers }: Request): void {
  const dest = headers['sec-fetch-dest'];
  if (dest !== undefined && dest !== 'document') throw HubErrors.OPEN_REFUSED();
}

import { Controller, Get, Inject, Optional, Post, Query, Req, Res } from '@nestjs/common';
import { CodedError } from '@rookery/core';
import { ProjectOrigins, TrustedProxies } from '@rookery/proxy';
import type { Request, Response } from 'express';
import { DataSource } from 'typeorm';
import { AuthService } from '../accounts/auth.service.js';
import { LoginService, type SignInPlace } from '../accounts/login.service.js';
import { SessionCookie } from '../accounts/session-cookie.js';
import { formBytesMax, readBody } from '../api/body.js';
import { HubErrors } from '../hub.errors.js';
import { OwnPath } from './own-path.js';
import { confirmPage, homePage, loginPage, sendPage, type HomeProject } from './pages.js';

/** The few pages that the hub has itself: signing in, and a list of projects. */
@Controller()
export class PagesController {
  constructor(
    private readonly login: LoginService,
    private readonly auth: AuthService,
    private readonly cookie: SessionCookie,
    private readonly trusted: TrustedProxies,
    private readonly dataSource: DataSource,
    @Optional() @Inject(ProjectOrigins) private readonly origins?: ProjectOrigins,
  ) {}

  @Get('/login')
  async signIn(
    @Query('ticket') ticket: unknown,
    @Query('next') next: unknown,
    @Req() request: Request,
    @Res() response: Response,
  ): Promise<void> {
    const path = OwnPath.parse(next);
    if (typeof ticket !== 'string') {
      this.send(response, 200, loginPage({ next: path }));
    } else if (this.cookie.isOwnVisit(request)) {
      await this.useTicket(request, response, ticket, path);
    } else {
      // Some other page leads here: nobody is signed in as somebody else without a word.
      this.send(response, 200, confirmPage({ ticket }));
    }
  }

  @Post('/login')
  async signInWithToken(@Req() request: Request, @Res() response: Response): Promise<void> {
    this.cookie.refuseForeignChange(request);
    const body = await readBody(request, formBytesMax);
    const form = new URLSearchParams(body.toString('utf8'));
    const next = OwnPath.parse(form.get('next') ?? '/');
    const ticket = form.get('ticket');
    if (ticket !== null) {
      await this.useTicket(request, response, ticket, next);
      return;
    }
    const token = (form.get('token') ?? '').trim();
    try {
      const { session } = await this.login.withToken(token, this.placeOf(request));
      this.open(response, session, next);
    } catch (error) {
      if (!CodedError.is(error, 'UNAUTHENTICATED')) throw error;
      const problem = 'This token is not valid. Paste the whole of it.';
      this.send(response, 401, loginPage({ next, problem }));
    }
  }

  @Post('/logout')
  async signOut(@Req() request: Request, @Res() response: Response): Promise<void> {
    this.cookie.refuseForeignChange(request);
    const session = this.cookie.read(request);
    if (session !== undefined) await this.login.end(session);
    this.cookie.clear(response);
    response.redirect(303, '/login');
  }

  @Get('/')
  async home(@Req() request: Request, @Res() response: Response): Promise<void> {
    const session = this.cookie.read(request);
    const caller = session === undefined ? undefined : await this.auth.bySession(session);
    if (!caller) {
      response.redirect(303, '/login');
      return;
    }
    const projects = await this.dataSource.query<HomeProject[]>(
      `SELECT p.id, p.title, p.state, p.host->>'name' AS host,
         p.rescue AND p.state NOT IN ('created', 'stopped', 'archived') AS rescue
       FROM projects p
       JOIN collaborators c ON c.project_id = p.id AND c.account_id = $1
       WHERE p.deleted_at IS NULL ORDER BY p.created_at LIMIT 200`,
      [caller.accountId],
    );
    this.send(response, 200, homePage(caller, projects, this.origins));
  }

  @Get('/healthz')
  healthz(): string {
    return 'ok\n';
  }

  @Get('/readyz')
  async readyz(): Promise<string> {
    try {
      await this.dataSource.query('SELECT 1');
      return 'ok\n';
    } catch (error) {
      throw HubErrors.POSTGRES_FAILED({ reason: 'it does not answer' }, { cause: error });
    }
  }

  private async useTicket(
    request: Request,
    response: Response,
    ticket: string,
    otherwise: string,
  ): Promise<void> {
    try {
      const { session, next } = await this.login.withTicket(ticket, this.placeOf(request));
      this.open(response, session, OwnPath.parse(next));
    } catch (error) {
      if (!CodedError.is(error, 'LOGIN_TICKET_INVALID')) throw error;
      const page = loginPage({ next: otherwise, problem: error.message });
      this.send(response, error.status, page);
    }
  }

  /** Who has signed in may go on to a project's origin. */
  private send(response: Response, status: number, html: string): void {
    sendPage(response, status, html, this.origins?.pattern);
  }

  private open(response: Response, session: string, next: string): void {
    this.cookie.set(response, session);
    response.set('cache-control', 'no-store').redirect(303, next);
  }

  private placeOf(request: Request): SignInPlace {
    const { address } = this.trusted.clientOf(request);
    return { address, userAgent: request.headers['user-agent'] ?? '' };
  }
}

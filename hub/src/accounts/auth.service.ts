import { createHash } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { Injectable } from '@nestjs/common';
import { bearerToken, newSecret } from '@rookery/core';
import { DataSource } from 'typeorm';
import { HubErrors } from '../hub.errors.js';

/** Who asks. */
export interface Caller {
  readonly accountId: string;
  readonly email: string;
  readonly name: string;
  readonly admin: boolean;
  readonly createdAt: Date;
  readonly via: 'key' | 'session';
  /** Of the API key or session that was shown. */
  readonly credentialId: string;
  /** The API key that was shown, or that the session was made with. */
  readonly keyId: string;
}

const tokenPattern = /^rookery_[A-Za-z0-9_-]{43}$/;
const sessionPattern = /^session_[A-Za-z0-9_-]{43}$/;
const originPattern = /^origin_[A-Za-z0-9_-]{43}$/;
/** `lastUsedAt` is written at most this often. */
const usedEveryS = 60;

export const hashOf = (secret: string): Buffer => createHash('sha256').update(secret).digest();
export const newApiToken = (): string => newSecret('rookery');

/** `account:<id>` as audit rows and token subjects name it. */
export const actorOf = (caller: Pick<Caller, 'accountId'>): string => `account:${caller.accountId}`;

/** Whether a caller names itself, by id or email. */
export const isOwn = ({ accountId, email }: Caller, name: string): boolean =>
  name === accountId || name.toLowerCase() === email;

/** Tells who shows an API key, or the secret of a session. */
@Injectable()
export class AuthService {
  constructor(private readonly dataSource: DataSource) {}

  /**
   * Who calls the API. Cookies are not looked at: a browser sends them for any page.
   * @throws UNAUTHENTICATED
   */
  async require(request: IncomingMessage): Promise<Caller> {
    const token = bearerToken(request.headers.authorization);
    const caller = token === undefined ? undefined : await this.byToken(token);
    if (!caller) throw HubErrors.UNAUTHENTICATED();
    return caller;
  }

  async byToken(token: string): Promise<Caller | undefined> {
    if (!tokenPattern.test(token)) return undefined;
    const [found] = await this.dataSource.query<(CallerRow & { stale: boolean })[]>(
      `SELECT a.*, k.id AS credential_id, k.id AS key_id,
         k.last_used_at IS NULL OR k.last_used_at < now() - make_interval(secs => $2) AS stale
       FROM api_keys k JOIN accounts a ON a.id = k.account_id
       WHERE k.token_hash = $1 AND a.blocked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > now())`,
      [hashOf(token), usedEveryS],
    );
    if (!found) return undefined;
    if (found.stale) {
      await this.dataSource.query('UPDATE api_keys SET last_used_at = now() WHERE id = $1', [
        found.credential_id,
      ]);
    }
    return toCaller(found, 'key');
  }

  async bySession(secret: string): Promise<Caller | undefined> {
    if (!sessionPattern.test(secret)) return undefined;
    return this.bySessionWhere('s.token_hash = $2', [hashOf(secret)]);
  }

  /** Who is signed in at a project's own origin: for as long as the hub's session lasts. */
  async byOriginSession(cookie: OriginCookie): Promise<Caller | undefined> {
    if (!originPattern.test(cookie.secret)) return undefined;
    return this.bySessionWhere(
      `s.id = (SELECT session_id FROM origin_sessions
         WHERE token_hash = $2 AND project_id = $3 AND port = $4)`,
      [hashOf(cookie.secret), cookie.projectId, cookie.port],
    );
  }

  private async bySessionWhere(which: string, values: unknown[]): Promise<Caller | undefined> {
    const [found] = await this.dataSource.query<(CallerRow & { stale: boolean })[]>(
      `SELECT a.*, s.id AS credential_id, s.key_id,
         s.last_used_at IS NULL OR s.last_used_at < now() - make_interval(secs => $1) AS stale
       FROM sessions s JOIN accounts a ON a.id = s.account_id JOIN api_keys k ON k.id = s.key_id
       WHERE ${which} AND a.blocked_at IS NULL AND s.expires_at > now()
         AND (k.expires_at IS NULL OR k.expires_at > now())`,
      [usedEveryS, ...values],
    );
    if (!found) return undefined;
    if (found.stale) {
      await this.dataSource.query('UPDATE sessions SET last_used_at = now() WHERE id = $1', [
        found.credential_id,
      ]);
    }
    return toCaller(found, 'session');
  }
}

/** A cookie of a project's own origin, and the origin that it was sent to. */
export interface OriginCookie {
  readonly secret: string;
  readonly projectId: string;
  readonly port: number;
}

interface CallerRow {
  readonly id: string;
  readonly email: string;
  readonly name: string;
  readonly admin: boolean;
  readonly created_at: Date;
  readonly credential_id: string;
  readonly key_id: string;
}

const toCaller = (row: CallerRow, via: Caller['via']): Caller => ({
  accountId: row.id,
  email: row.email,
  name: row.name,
  admin: row.admin,
  createdAt: row.created_at,
  via,
  credentialId: row.credential_id,
  keyId: row.key_id,
});

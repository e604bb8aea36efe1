import { Inject, Injectable } from '@nestjs/common';
import { newSecret } from '@rookery/core';
import { OriginSessions, type OriginSession } from '@rookery/proxy';
import { DataSource, type EntityManager } from 'typeorm';
import { hashOf, type Caller } from '../accounts/auth.service.js';
import { HUB_CONFIG, type HubConfig } from '../config/config.js';

/** From the hub's redirect to the origin's request. */
const codeSeconds = 60;
/** Origins that one session of the hub's is signed in to at a time; the oldest gives way. */
const originsPerSessionMax = 500;

/** An origin of a project that a browser wants to be signed in to. */
export interface AskedOrigin {
  readonly projectId: string;
  readonly port: number;
  readonly next: string;
  readonly state: string;
}

/** Signs browsers in to projects' own origins: a code that is used once becomes a session there. */
@Injectable()
export class HubOriginSessions extends OriginSessions {
  constructor(
    private readonly dataSource: DataSource,
    @Inject(HUB_CONFIG) private readonly config: HubConfig,
  ) {
    super();
  }

  signInUrl({ projectId, port, next, state }: AskedOrigin): string {
    const query = new URLSearchParams({ project: projectId, port: String(port), next, state });
    return `${this.config.publicUrl}/open?${query.toString()}`;
  }

  /** For the caller's session alone, once; that it may go there has been checked. */
  async createCode({ credentialId }: Caller, asked: AskedOrigin): Promise<string> {
    const code = newSecret('code');
    await this.dataSource.query('DELETE FROM origin_codes WHERE expires_at < now()');
    await this.dataSource.query(
      `INSERT INTO origin_codes
         (code_hash, state_hash, session_id, project_id, port, next, expires_at)
       VALUES ($1, $2, $3, $4, $5, $6, now() + make_interval(secs => $7))`,
      [
        hashOf(code),
        hashOf(asked.state),
        credentialId,
        asked.projectId,
        asked.port,
        asked.next,
        codeSeconds,
      ],
    );
    return code;
  }

  async redeem(
    shown: Omit<AskedOrigin, 'next'> & { code: string },
  ): Promise<OriginSession | undefined> {
    const { code, state, projectId, port } = shown;
    return this.dataSource.transaction(async (manager) => {
      const [[found]] = await manager.query<[Redeemed[], number]>(
        `DELETE FROM origin_codes c
         USING sessions s JOIN accounts a ON a.id = s.account_id JOIN api_keys k ON k.id = s.key_id
         WHERE c.code_hash = $1 AND c.state_hash = $2 AND c.project_id = $3 AND c.port = $4
           AND c.expires_at > now() AND s.id = c.session_id AND s.expires_at > now()
           AND a.blocked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > now())
         RETURNING c.session_id, c.next, extract(epoch FROM s.expires_at - now())::int AS seconds`,
        [hashOf(code), hashOf(state), projectId, port],
      );
      if (!found) return undefined;
      const secret = newSecret('origin');
      await manager.query(
        `INSERT INTO origin_sessions (token_hash, session_id, project_id, port)
         VALUES ($1, $2, $3, $4)`,
        [hashOf(secret), found.session_id, projectId, port],
      );
      await this.dropOldest(manager, found.session_id);
      return { secret, next: found.next, maxAgeSeconds: found.seconds };
    });
  }

  private async dropOldest(manager: EntityManager, sessionId: string): Promise<void> {
    await manager.query(
      `DELETE FROM origin_sessions WHERE token_hash IN (
         SELECT token_hash FROM origin_sessions WHERE session_id = $1
         ORDER BY created_at DESC OFFSET $2)`,
      [sessionId, originsPerSessionMax],
    );
  }
}

interface Redeemed {
  readonly session_id: string;
  readonly next: string;
  readonly seconds: number;
}

import type { IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import { Injectable, OnModuleInit, type BeforeApplicationShutdown } from '@nestjs/common';
import { bearerToken, refuseUpgrade, relayUpgrade } from '@rookery/core';
import { DataSource } from 'typeorm';
import { goodCredentials } from '../accounts/credentials.js';
import { AccessChanges, type AccessChange } from '../access/access-changes.js';
import { HubAuthenticator, type Bearer } from './hub-authenticator.js';

/** Connections that this process carries at a time. */
const relaysMax = 8_192;
const relaysPerAccountMax = 512;

const pattern = /^\/hosts\/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\/conat$/;

/** Where a host's broker is reached by way of the hub. */
export const relayPath = (hostId: string): string => `/hosts/${hostId}/conat`;

interface Relay extends Bearer {
  readonly hostId: string;
  readonly socket: Duplex;
}

/**
 * Hosts' brokers for those who cannot dial the host: bytes, carried to the host's own `/conat`. Only
 * for an account that has a project there; who it is, the host's broker asks again. It ends with
 * the right to it.
 */
@Injectable()
export class HostRelay implements OnModuleInit, BeforeApplicationShutdown {
  private readonly open = new Set<Relay>();

  constructor(
    private readonly dataSource: DataSource,
    private readonly authenticator: HubAuthenticator,
    private readonly changes: AccessChanges,
  ) {}

  onModuleInit(): void {
    this.changes.onChange((change) => void this.hear(change));
  }

  beforeApplicationShutdown(): void {
    for (const { socket } of this.open) socket.destroy();
  }

  matches(path: string): boolean {
    return pattern.test(path);
  }

  async handleUpgrade(request: IncomingMessage, socket: Duplex, head: Buffer): Promise<void> {
    const { pathname, searchParams } = new URL(request.url ?? '/', 'http://hub');
    const hostId = pattern.exec(pathname)?.[1] ?? '';
    const bearer = bearerToken(request.headers.authorization);
    // Browsers cannot set headers of a WebSocket.
    const token = bearer ?? searchParams.get('rookery_token') ?? '';
    try {
      const who = await this.authenticator.bearerOf(token, `conat:${hostId}`);
      if (!who) return refuseUpgrade(socket, 401);
      const target = await this.target(hostId, who);
      if (target === undefined) return refuseUpgrade(socket, 403);
      if (this.isFull(who.accountId)) return refuseUpgrade(socket, 503);
      const relay: Relay = { ...who, hostId, socket };
      this.open.add(relay);
      try {
        await relayUpgrade(request, socket, head, `${target}/conat`);
      } finally {
        this.open.delete(relay);
      }
    } catch {
      refuseUpgrade(socket, 502);
    }
  }

  private isFull(accountId: string): boolean {
    if (this.open.size >= relaysMax) return true;
    let own = 0;
    for (const each of this.open) if (each.accountId === accountId) own += 1;
    return own >= relaysPerAccountMax;
  }

  /** The host's address, for an account that has a project there. */
  private async target(hostId: string, who: Bearer): Promise<string | undefined> {
    const [row] = await this.dataSource.query<{ url: string }[]>(
      `SELECT h.internal_url AS url FROM project_hosts h
       WHERE h.id = $1 AND h.status = 'active' AND EXISTS (
         SELECT 1 FROM projects p
         JOIN collaborators c ON c.project_id = p.id AND c.account_id = $2
         JOIN accounts a ON a.id = c.account_id AND a.blocked_at IS NULL
         WHERE p.host_id = h.id AND p.deleted_at IS NULL AND ($3::uuid IS NULL OR p.id = $3))`,
      [hostId, who.accountId, who.projectId ?? null],
    );
    return row?.url;
  }

  private async hear(change: AccessChange): Promise<void> {
    const concerned = [...this.open].filter((relay) => concerns(change, relay));
    const isGood = await this.goodBearers(change, concerned);
    for (const relay of concerned) {
      // A key or host that is gone needs no question; of rights, what is left counts.
      const ends = change.kind === 'credentials' || change.kind === 'host' || !isGood(relay);
      const may = !ends && (await this.target(relay.hostId, relay).catch(() => undefined));
      if (may === false || may === undefined) relay.socket.destroy();
    }
  }

  /** Which keys and sessions ended is not known when changes were missed: all are asked for. */
  private async goodBearers(
    change: AccessChange,
    relays: readonly Relay[],
  ): Promise<(bearer: Bearer) => boolean> {
    if (change.kind !== 'all') return () => true;
    const ids = relays.flatMap(({ credentialId }) => credentialId ?? []);
    const good = await goodCredentials(this.dataSource, ids).catch(() => new Set<string>());
    return ({ credentialId }) => credentialId !== undefined && good.has(credentialId);
  }
}

function concerns(change: AccessChange, relay: Relay): boolean {
  switch (change.kind) {
    case 'rights':
      if (change.accountId !== undefined) return change.accountId === relay.accountId;
      return relay.projectId === undefined || relay.projectId === change.projectId;
    case 'credentials':
      return (
        change.accountId === relay.accountId &&
        (change.credentialId === undefined || change.credentialId === relay.credentialId)
      );
    case 'host':
      return change.hostId === relay.hostId;
    case 'all':
      return true;
  }
}

import { generateKeyPairSync } from 'node:crypto';
import { createServiceClient, serve } from '@rookery/rpc';
import { NetworkAuthenticator } from '@rookery/fleet';
import type { ConatClient } from '@rookery/conat';
import {
  hostAccess,
  hostRegistration,
  hostReports,
  type ImageTreeReport,
  type ProjectReport,
  identityNames,
} from '@rookery/fleet/contract';
import { FakeAccess } from './fake-access.js';
import { startTestBroker, type TestBroker } from '@rookery/conat/testing';
import { AccessTokenMinter, newId, newSecret } from '@rookery/core';
import type { CallContext, ServiceClient, ServiceContract } from '@rookery/rpc/contract';
import type { CodedErrorView, Fence, VerificationKey } from '@rookery/core/contract';

type Heartbeat = Parameters<ServiceClient<typeof hostReports>['heartbeat']>[0];

type Registration = Parameters<ServiceClient<typeof hostRegistration>['register']>[0];
export type RegisteredHost = Registration & { readonly hostId: string };

/** As much of a hub as a host talks to: real broker, real protocol, books in memory. */
export class FakeHub {
  readonly joinToken = newSecret('rkj');
  /** What each host owns: project → generation. */
  readonly owned = new Map<string, number>();
  /** Projects that belong to another host than the first. */
  readonly owners = new Map<string, string>();
  readonly heartbeats: Heartbeat[] = [];
  /** What hosts said that keeps them from serving. */
  readonly troubles: CodedErrorView[] = [];
  /** Every project that any host has ever reported. */
  readonly reported = new Set<string>();
  readonly hosts: RegisteredHost[] = [];
  /** Who may enter what. */
  readonly access = new FakeAccess();
  /** What hosts say that their images hold. */
  readonly imageTrees = new Map<string, string>();
  registrations = 0;
  private readonly secret = newSecret('hub');
  private readonly key = generateKeyPairSync('ed25519');
  private readonly kid = newId();
  private readonly minter = new AccessTokenMinter(this.key.privateKey, this.kid);
  private broker: TestBroker | undefined;
  private client: ConatClient | undefined;
  port = 0;

  get url(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  async start(): Promise<void> {
    const authenticator = new NetworkAuthenticator({
      hubSecret: this.secret,
      hostOf: async (key) => this.hosts.find((each) => each.identityKey === key)?.hostId ?? null,
      isJoinToken: async (token) => token === this.joinToken,
    });
    this.broker = await startTestBroker({ authenticator, port: this.port });
    this.port = this.broker.port;
    this.client = await this.broker.connect({
      identity: identityNames.hub,
      credentials: { user: identityNames.hub, password: this.secret },
    });
    await serve(this.client, hostRegistration, {
      register: async (host) => {
        this.registrations += 1;
        const known = this.hosts.find((each) => each.identityKey === host.identityKey);
        const hostId = known?.hostId ?? newId();
        if (!known) this.hosts.push({ ...host, hostId });
        return { hostId, verificationKeys: this.verificationKeys };
      },
    });
    const reports = {
      heartbeat: async (heartbeat: Heartbeat, { params }: CallContext) => {
        const { hostId = '' } = params;
        if (hostId === this.hostId) this.heartbeats.push(heartbeat);
        this.note(heartbeat.projects);
        return {
          verificationKeys: this.verificationKeys,
          owned: this.ownedOf(hostId, heartbeat.projects),
          heartbeatEveryMs: 200,
          accessRevision: this.access.revision,
        };
      },
      trouble: async ({ error }: { error: CodedErrorView }) => {
        this.troubles.push(error);
        return {};
      },
      projects: async ({ projects }: { projects: ProjectReport[] }, { params }: CallContext) => {
        this.note(projects);
        return { owned: this.ownedOf(params['hostId'] ?? '', projects) };
      },
      imageTrees: async ({ trees }: { trees: ImageTreeReport[] }, { params }: CallContext) => {
        for (const { imageDigest, treeDigest } of trees) {
          this.imageTrees.set(`${params['hostId']} ${imageDigest}`, treeDigest);
        }
        return { differing: [] };
      },
      access: async ({ since, after }: { since?: number; after?: string }) =>
        this.access.answer(since, after),
      credentials: async ({ credentialIds }: { credentialIds: string[] }) =>
        this.access.credentials(credentialIds),
      endedMoves: async () => ({ over: [] }),
      projectToken: async ({ projectId }: { projectId: string }) => ({
        token: await this.minter.mint({
          aud: 'conat',
          sub: `project:${projectId}`,
          project: projectId,
          role: 'project',
        }),
      }),
    };
    await serve(this.client, hostReports, reports as never, { wildcardParams: ['hostId'] });
  }

  /** The hub is away; `start` brings it back at its address. */
  async stop(): Promise<void> {
    await this.broker?.close();
    this.broker = undefined;
  }

  /** The first host's. */
  get hostId(): string {
    return this.hosts[0]?.hostId ?? '';
  }

  service<C extends ServiceContract>(contract: C, hostId = this.hostId): ServiceClient<C> {
    if (!this.client) throw new Error('the hub was not started');
    return createServiceClient(this.client, contract, { hostId } as never);
  }

  private note(projects: readonly ProjectReport[]): void {
    for (const { projectId } of projects) this.reported.add(projectId);
  }

  private ownedOf(hostId: string, projects: readonly ProjectReport[]) {
    return projects.flatMap(({ projectId }) => {
      const generation = this.owned.get(projectId);
      const isHosts = (this.owners.get(projectId) ?? this.hostId) === hostId;
      return generation !== undefined && isHosts ? [{ projectId, generation }] : [];
    });
  }

  report(projectId: string): ProjectReport | undefined {
    const found = this.heartbeats.at(-1)?.projects.find((each) => each.projectId === projectId);
    return found;
  }

  fence(projectId: string, generation = 1): Fence {
    return { projectId, generation, operationId: newId(), attempt: 1 };
  }

  token(project: string, hostId = this.hostId): Promise<string> {
    return this.minter.mint({
      aud: `host:${hostId}`,
      sub: 'account:x',
      project,
      role: 'owner',
    });
  }

  /** An access token for messaging. */
  conatToken(accountId: string, more: { project?: string; credential?: string } = {}) {
    return this.minter.mint({ aud: 'conat', sub: `account:${accountId}`, ...more });
  }

  /** Tells the host at once, as the hub does. */
  async tellAccess(): Promise<void> {
    await this.service(hostAccess).changed({});
  }

  private get verificationKeys(): VerificationKey[] {
    const { x = '' } = this.key.publicKey.export({ format: 'jwk' });
    return [{ kid: this.kid, kty: 'OKP', crv: 'Ed25519', x }];
  }
}

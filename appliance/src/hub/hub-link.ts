import { backoffMs, CodedError, type Clock, type Logger } from '@rookery/core';
import { ConatClient } from '@rookery/conat';
import { createServiceClient } from '@rookery/rpc';
import { joiningIdentityName } from '@rookery/fleet';
import { hostRegistration, hostReports, identityNames } from '@rookery/fleet/contract';
import type { ServiceClient } from '@rookery/rpc/contract';
import type { EndedWork } from '../projects/ended-work.js';
import type { AccessSync } from '../access/access-sync.js';
import type { ProjectTokens } from '../access/project-tokens.js';
import type { HostConfig } from '../config/config.js';
import { HostErrors } from '../host.errors.js';
import type { HostIdentity } from '../identity/identity.js';
import { version } from '../version.js';
import type { HostRecord } from './host-record.js';
import type { ImageReports } from './image-reports.js';
import type { HostStatus } from './host-status.js';
import type { Ownership } from './ownership.js';

const retry = { firstMs: 500, maxMs: 15_000 };
const connectTimeoutMs = 10_000;
/** A container waits so long for its token before it starts without. */
const tokenMs = 2_000;
/** Changes of state within this time make one report. */
const reportDelayMs = 50;
/** A hub that does not say otherwise. */
const heartbeatDefaultMs = 5_000;

export interface HubLinkDependencies {
  readonly config: HostConfig;
  readonly identity: HostIdentity;
  readonly record: HostRecord;
  readonly status: HostStatus;
  readonly ownership: Ownership;
  readonly access: AccessSync;
  readonly images: ImageReports;
  readonly tokens: ProjectTokens;
  readonly ended: EndedWork;
  /** Serves the host's contracts on a new connection. */
  readonly serve: (client: ConatClient, hostId: string) => Promise<void>;
  readonly clock: Clock;
  readonly logger: Logger;
}

/**
 * The host's line to its hub.
 *
 * Joins once with the token, then connects with its own key, serves, and reports: every few seconds,
 * and at once when a project changed. All of it goes on for ever in the background: a hub that is
 * away stops nothing here.
 */
export class HubLink {
  private readonly stopped = new AbortController();
  private running: Promise<void> = Promise.resolve();
  private client: ConatClient | undefined;
  private wake: (() => void) | undefined;
  private reportDue = false;

  constructor(private readonly parts: HubLinkDependencies) {}

  start(): void {
    this.running = this.run().catch((error: unknown) => {
      if (!this.stopped.signal.aborted)
        this.parts.logger.error({ err: error }, 'the hub link ended');
    });
  }

  /** Whether the hub can be reached at this moment. */
  get connected(): boolean {
    return this.client?.status === 'connected';
  }

  /** Something changed that the hub should hear of now. */
  reportSoon(): void {
    this.reportDue = true;
    this.wake?.();
  }

  async stop(): Promise<void> {
    this.stopped.abort();
    this.wake?.();
    await this.running;
    await this.client?.close();
  }

  private async run(): Promise<void> {
    const hostId = await this.untilDone('joining', () => this.join());
    const { config, identity, logger } = this.parts;
    this.client = await this.untilDone('connecting', () =>
      ConatClient.connect({
        servers: conatUrl(config.hubUrl),
        identity: identityNames.host(hostId),
        credentials: { nkeySeed: identity.identitySeed },
        name: `host ${config.hostName}`,
        connectTimeoutMs,
        onStatus: (status) => {
          logger.info({ status }, 'the line to the hub');
          if (status === 'connected') this.reportSoon();
        },
        logger,
      }),
    );
    const { client } = this;
    this.attach(client, hostId);
    await this.untilDone('serving', () => this.parts.serve(client, hostId));
    logger.info({ hostId }, 'the host serves its hub');
    await this.reportForEver(client, hostId);
  }

  /** Who asks the hub by itself does it on this line. */
  private attach(client: ConatClient, hostId: string): void {
    const reports = createServiceClient(client, hostReports, { hostId });
    this.parts.access.attach(reports);
    this.parts.ended.attach(reports);
    this.parts.tokens.attach(async (projectId, generation) => {
      const { token } = await reports.projectToken(
        { projectId, generation },
        { timeoutMs: tokenMs },
      );
      return token;
    });
  }

  /** The id that the hub gave us; a repeated registration gives the same. */
  private async join(): Promise<string> {
    const { config, identity, record, status } = this.parts;
    const known = await record.get();
    if (known) {
      if (known.hubUrl !== config.hubUrl) await record.save({ ...known, hubUrl: config.hubUrl });
      return known.hostId;
    }
    const { joinToken } = config;
    if (joinToken === undefined) throw HostErrors.HOST_NOT_JOINED();
    const client = await ConatClient.connect({
      servers: conatUrl(config.hubUrl),
      identity: joiningIdentityName(joinToken),
      credentials: { token: joinToken },
      connectTimeoutMs,
      logger: this.parts.logger,
    });
    try {
      const { hostId, verificationKeys } = await createServiceClient(
        client,
        hostRegistration,
        {},
      ).register({
        joinToken,
        name: config.hostName,
        region: config.region,
        identityKey: identity.identityKey,
        transferKey: identity.transferKey.publicKey,
        ingressKey: identity.ingressKey.publicKey,
        publicUrl: config.publicUrl,
        internalUrl: config.internalUrl,
        sshHost: new URL(config.internalUrl).hostname.replace(/^\[|\]$/g, ''),
        sshPort: config.sshPort,
        version,
        capabilities: await status.capabilities(),
        capacity: await status.capacity(),
      });
      const { hubUrl } = config;
      await record.save({ hostId, hubUrl, verificationKeys, heartbeatEveryMs: heartbeatDefaultMs });
      return hostId;
    } finally {
      await client.close();
    }
  }

  private async reportForEver(client: ConatClient, hostId: string): Promise<void> {
    const reports = createServiceClient(client, hostReports, { hostId });
    const { record, tokens, logger } = this.parts;
    let silent = false;
    while (!this.stopped.signal.aborted) {
      let everyMs = (await record.get())?.heartbeatEveryMs ?? heartbeatDefaultMs;
      try {
        this.reportDue = false;
        everyMs = await this.report(reports);
        await tokens.fillMissing();
        if (silent) logger.info('the hub answers again');
        silent = false;
      } catch (error) {
        if (!silent) logger.warn({ err: error }, 'the hub does not take reports; going on without');
        silent = true;
      }
      await this.pause(everyMs);
    }
  }

  /**
   * One heartbeat with the first page of projects, and the others after it: one at a time, each
   * judged by its own answer.
   * @returns how long until the next one
   */
  private async report(hub: ServiceClient<typeof hostReports>): Promise<number> {
    const { record, status, ownership, access, images, clock } = this.parts;
    let everyMs: number | undefined;
    for await (const page of status.reports()) {
      const { projects } = page;
      const reported = { ids: projects.map(({ projectId }) => projectId), at: clock.now() };
      if (everyMs !== undefined) {
        await ownership.learn(reported, (await hub.projects(page)).owned);
        continue;
      }
      const figures = await status.figures();
      const reply = await hub.heartbeat({ ...figures, ...page });
      everyMs = reply.heartbeatEveryMs;
      await record.update(reply);
      await access.learn(reply.accessRevision);
      await ownership.learn(reported, reply.owned);
      await images.tell(hub, figures.images);
    }
    return everyMs ?? heartbeatDefaultMs;
  }

  /** Until the next heartbeat, or until something is to be reported. */
  private async pause(ms: number): Promise<void> {
    if (!this.reportDue && !this.stopped.signal.aborted) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, ms);
        this.wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
      this.wake = undefined;
    }
    if (this.reportDue) await this.sleep(reportDelayMs);
  }

  private async untilDone<T>(what: string, task: () => Promise<T>): Promise<T> {
    for (let n = 0; ; n += 1) {
      this.stopped.signal.throwIfAborted();
      try {
        return await task();
      } catch (error) {
        const { logger } = this.parts;
        const code = CodedError.is(error) ? error.code : undefined;
        logger.warn({ err: error, code }, `${what} did not succeed yet; trying again`);
      }
      await this.sleep(200 + backoffMs(n, retry));
    }
  }

  private sleep(ms: number): Promise<void> {
    return this.parts.clock.delay(ms, this.stopped.signal).catch(() => undefined);
  }
}

export const conatUrl = (hubUrl: string): string => `${hubUrl.replace(/^http/, 'ws')}/conat`;

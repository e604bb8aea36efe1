import { Broker, ConatClient } from '@rookery/conat';
import { createServiceClient } from '@rookery/rpc';
import {
  hostCopies,
  hostBackups,
  moveDestination,
  moveSource,
  hostProjects,
  hostSnapshots,
  identityNames,
} from '@rookery/fleet/contract';
import type { BeforeApplicationShutdown } from '@nestjs/common';
import { backoffMs, CodedError, SystemClock, type Logger } from '@rookery/core';
import type { ServiceClient, ServiceContract } from '@rookery/rpc/contract';
import { HostConnections, type HostCallOptions } from '../hosts/host-connections.js';
import { HubErrors } from '../hub.errors.js';

/** Work that a host interrupted because it stops waits so long for the host to come back. */
const restartPatienceMs = 10 * 60_000;
const retry = { firstMs: 100, maxMs: 1000 };

export interface HubConatOptions {
  /** This process's broker, or another hub's URL. */
  readonly servers: Broker | string;
  readonly hubSecret: string;
  /** How long a call waits for a host that is not connected. */
  readonly patienceMs: number;
  readonly log: Logger;
}

/** This process's connection to the control network; made at the first need, shared by all. */
export class HubConat extends HostConnections implements BeforeApplicationShutdown {
  private connecting: Promise<ConatClient> | undefined;
  private connected: ConatClient | undefined;
  private readonly clock = new SystemClock();

  constructor(private readonly options: HubConatOptions) {
    super();
  }

  client(): Promise<ConatClient> {
    this.connecting ??= this.connect();
    return this.connecting;
  }

  /** After the workers have stopped, before the broker waits for its clients to leave. */
  async beforeApplicationShutdown(): Promise<void> {
    await this.connected?.close();
  }

  projects(hostId: string, options?: HostCallOptions) {
    return this.of(hostProjects, hostId, options);
  }
  snapshots(hostId: string, options?: HostCallOptions) {
    return this.of(hostSnapshots, hostId, options);
  }
  backups(hostId: string, options?: HostCallOptions) {
    return this.of(hostBackups, hostId, options, away);
  }
  copies(hostId: string, options?: HostCallOptions) {
    return this.of(hostCopies, hostId, options);
  }
  source(hostId: string, options?: HostCallOptions) {
    return this.of(moveSource, hostId, options, away);
  }
  destination(hostId: string, options?: HostCallOptions) {
    return this.of(moveDestination, hostId, options, away);
  }

  private async connect(): Promise<ConatClient> {
    const { servers, hubSecret, log } = this.options;
    this.connected = await ConatClient.connect({
      servers,
      identity: identityNames.hub,
      credentials: { user: identityNames.hub, password: hubSecret },
      logger: log,
    });
    return this.connected;
  }

  /**
   * The transport's retries: nobody listening means that the host never got the call, so it may be
   * sent again whatever it does.
   */
  private of<C extends ServiceContract>(
    contract: C,
    hostId: string,
    options: HostCallOptions = {},
    offline: Offline = hostOffline,
  ): ServiceClient<C> {
    const { patienceMs = this.options.patienceMs } = options;
    const methods: Record<string, unknown> = {};
    for (const name of Object.keys(contract.methods)) {
      methods[name] = (input: unknown, callOptions?: { signal?: AbortSignal }) =>
        this.patiently({ hostId, patienceMs, offline }, callOptions?.signal, async () => {
          const client = createServiceClient(await this.client(), contract, { hostId } as never);
          const method = (client as unknown as Record<string, AnyMethod>)[name]!;
          return method(input, callOptions);
        });
    }
    return methods as ServiceClient<C>;
  }

  private async patiently<T>(
    { hostId, patienceMs, offline }: Callee,
    signal: AbortSignal | undefined,
    task: () => Promise<T>,
  ): Promise<T> {
    let giveUpAt = this.clock.now() + patienceMs;
    for (let n = 0; ; n += 1) {
      try {
        return await task();
      } catch (error) {
        if (CodedError.is(error, 'INTERRUPTED') && patienceMs > 0) {
          // It stops in order, so it comes back: this call is worth a longer wait.
          giveUpAt = this.clock.now() + restartPatienceMs;
          this.options.log.info({ hostId }, 'a host is being stopped; its work waits for it');
        } else if (!CodedError.is(error, 'SERVICE_UNAVAILABLE')) throw error;
        if (this.clock.now() >= giveUpAt) {
          throw offline(hostId, error);
        }
        await this.clock.delay(20 + backoffMs(n, retry), signal);
      }
    }
  }
}

interface Callee {
  readonly hostId: string;
  readonly patienceMs: number;
  readonly offline: Offline;
}

type Offline = (host: string, cause: unknown) => CodedError;

const hostOffline: Offline = (host, cause) => HubErrors.HOST_OFFLINE({ host }, { cause });

/**
 * What takes long, a move, a backup, a restore, has steps that say how often they try again: a host
 * whose processes are restarted takes longer than a person waits for one call.
 */
const away: Offline = (host, cause) =>
  new CodedError({ ...hostOffline(host, cause).toJSON(), retryable: true }, { cause });

type AnyMethod = (input: unknown, options?: unknown) => Promise<never>;

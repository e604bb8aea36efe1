import { createLogger, parseConfig, SystemClock, type Logger } from '@rookery/core';
import type { PublishOp } from '../broker/parser.js';
import type { Listener, Publisher, Subscription } from '../broker/ports.js';
import { ConatErrors } from '../conat.errors.js';
import { Fabric, type FabricHost, type FabricStatus } from './fabric.js';
import { NatsLink, type LinkCounters, type LinkPorts } from './nats-link.js';
import {
  NatsFabricOptions,
  withoutCredentials,
  type NatsFabricOptionsInput,
} from './nats-options.js';
import { isRefusal, type ServerInfo } from './nats-wire.js';

export interface NatsFabricPorts {
  readonly logger?: Logger;
  /** Shown by the cluster's monitoring. */
  readonly name?: string;
}

/** Links of single clients may keep this part of what the shared one may. */
const ownLinkPart = 16;

/** Messages that come from the cluster say nothing of who published them. */
const elsewhere: Publisher = {
  identity: {
    name: 'fabric',
    permissions: { publish: { allow: [] }, subscribe: { allow: [] } },
  },
  hearsItself: true,
  brake: null,
  noResponders: () => {},
};

/**
 * Brokers of several processes meet in a NATS cluster. Each subscription of a client is one of the
 * cluster's, each publication goes there, so that queue groups, no-responders and JetStream are
 * its own; who may say and hear what is still decided by each broker, at its edge.
 *
 * All clients share one connection, but those that do not want to hear themselves: only the
 * cluster can tell what they said, and does so by connection.
 */
export class NatsFabric extends Fabric {
  private readonly options: NatsFabricOptions;
  private readonly logger: Logger;
  private readonly counters: LinkCounters = { reconnects: 0, dropped: 0, held: 0, errors: 0 };
  private readonly own = new Map<Publisher, NatsLink>();
  private readonly closing = new Set<Promise<void>>();
  private readonly clock = new SystemClock();
  private host: FabricHost | null = null;
  private shared: NatsLink | null = null;
  private announced = '';

  /** @throws INVALID_CONFIG */
  constructor(
    options: NatsFabricOptionsInput,
    private readonly ports: NatsFabricPorts = {},
  ) {
    super();
    this.options = parseConfig(NatsFabricOptions, options);
    this.logger = ports.logger ?? createLogger('conat-fabric', 'warn');
  }

  get status(): FabricStatus {
    const links = this.links();
    const sum = (of: (link: NatsLink) => number): number =>
      links.reduce((total, link) => total + of(link), 0);
    return {
      connected: this.shared?.isUp ?? false,
      links: links.filter(({ isUp }) => isUp).length,
      subscriptions: sum((link) => link.subscriptionCount),
      bufferedBytes: sum((link) => link.bufferedBytes),
      ...this.counters,
    };
  }

  join(host: FabricHost): void {
    this.host = host;
    this.shared = this.link(true);
  }

  start(): Promise<void> {
    const { servers, connectTimeoutMs } = this.options;
    return new Promise((resolve, reject) => {
      let reason = 'no answer yet';
      const fail = (error: Error): void => {
        clearTimeout(timer);
        void this.shared?.close(0);
        reject(error);
      };
      const timer = setTimeout(() => {
        const names = servers.map(withoutCredentials).join(', ');
        fail(ConatErrors.CONAT_FABRIC_UNREACHABLE({ servers: names, reason }));
      }, connectTimeoutMs);
      let refused = 0;
      void this.shared!.run((error) => {
        if (!error) {
          clearTimeout(timer);
          resolve();
          return;
        }
        reason = error.message;
        // One node may be set up otherwise than the rest.
        if (isRefusal(error) && (refused += 1) >= servers.length) fail(error);
      });
    });
  }

  admits(client: Publisher): boolean {
    if (client.hearsItself) return true;
    if (this.own.size >= this.options.ownLinksMax) return false;
    this.linkOf(client);
    return true;
  }

  subscribed(subscription: Subscription): void {
    this.linkOf(subscription.client).subscribed(subscription);
  }

  bounded(subscription: Subscription): void {
    this.linkOf(subscription.client).bounded(subscription);
  }

  unsubscribed(subscription: Subscription, linger: boolean): void {
    this.linkOf(subscription.client).unsubscribed(subscription, linger);
  }

  publish(from: Publisher, op: PublishOp): number {
    return this.linkOf(from).publish(from, op);
  }

  settled(client: Publisher, done: () => void): void {
    this.linkOf(client).settled(done);
  }

  left(client: Publisher & Listener): void {
    const link = this.own.get(client);
    if (!link) return;
    this.own.delete(client);
    const closing = link.close(this.options.closeDeadlineMs);
    this.closing.add(closing);
    void closing.finally(() => this.closing.delete(closing));
  }

  async close(): Promise<void> {
    const closing = this.links().map((link) => link.close(this.options.closeDeadlineMs));
    await Promise.all([...closing, ...this.closing]);
  }

  private links(): NatsLink[] {
    return [...(this.shared ? [this.shared] : []), ...this.own.values()];
  }

  private linkOf(client: Publisher): NatsLink {
    if (client.hearsItself) return this.shared!;
    let link = this.own.get(client);
    if (!link) {
      link = this.link(false);
      this.own.set(client, link);
      void link.run();
    }
    return link;
  }

  private link(echo: boolean): NatsLink {
    const { options, counters, logger, clock } = this;
    const host = this.host!;
    const bytesMax = Math.ceil(options.bufferedBytesMax / (echo ? 1 : ownLinkPart));
    const ports: LinkPorts = {
      counters,
      logger,
      clock,
      deliver: (subscription, op) => host.deliverFromFabric(subscription, elsewhere, op),
      up: (info) => this.announce(info),
    };
    return new NatsLink(
      {
        ...options,
        echo,
        name: this.ports.name ?? 'conat',
        payloadBytesMax: host.limits.payloadBytesMax,
        bufferedBytesMax: bytesMax,
        holdAboveBytes: Math.min(options.holdAboveBytes, Math.ceil(bytesMax / 2)),
      },
      ports,
    );
  }

  /** JetStream is the cluster's. */
  private announce({ jetstream, api_lvl }: ServerInfo): void {
    const fields = { jetstream, ...(api_lvl === undefined ? {} : { api_lvl }) };
    const text = JSON.stringify(fields);
    if (text === this.announced) return;
    this.announced = text;
    this.host!.announce(fields);
  }
}

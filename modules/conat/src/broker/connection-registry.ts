import type { BrokerLimits } from './limits.js';
import type { BrokerClient } from './ports.js';
import { TokenBucket, type IdentityRates } from './token-bucket.js';

interface Identity {
  readonly connections: Set<BrokerClient>;
  readonly rates: IdentityRates;
}

/** A bucket is full again after this long, so that nothing is gained by coming anew. */
const ratesKeptMs = 1_000;

/** Who is connected: in all, by address, by identity; and whose socket has yet to take its last bytes. */
export class ConnectionRegistry {
  private readonly connections = new Set<BrokerClient>();
  private readonly closing = new Set<BrokerClient>();
  private readonly byIdentity = new Map<string, Identity>();
  private readonly byAddress = new Map<string, number>();
  private readonly waiters = new Set<() => void>();

  constructor(private readonly limits: BrokerLimits) {}

  get size(): number {
    return this.connections.size;
  }

  /** All of them now; the caller may close them meanwhile. */
  all(): BrokerClient[] {
    return [...this.connections];
  }

  ofIdentity(name: string): BrokerClient[] {
    return [...(this.byIdentity.get(name)?.connections ?? [])];
  }

  identityNames(): string[] {
    const names: string[] = [];
    for (const [name, { connections }] of this.byIdentity)
      if (connections.size > 0) names.push(name);
    return names;
  }

  /** @returns false when there are more than may be, in all or from its address */
  add(connection: BrokerClient): boolean {
    this.connections.add(connection);
    const fromAddress = (this.byAddress.get(connection.peer) ?? 0) + 1;
    this.byAddress.set(connection.peer, fromAddress);
    const { connectionsMax, connectionsPerAddressMax } = this.limits;
    return this.connections.size <= connectionsMax && fromAddress <= connectionsPerAddressMax;
  }

  /** @returns null when the identity has as many connections as it may */
  admit(connection: BrokerClient, name: string, nowMs: number): IdentityRates | null {
    let identity = this.byIdentity.get(name);
    if (!identity) {
      const { publishesPerSecondMax, requestsPerSecondMax } = this.limits;
      identity = {
        connections: new Set(),
        rates: {
          publishes: new TokenBucket(publishesPerSecondMax, nowMs),
          requests: new TokenBucket(requestsPerSecondMax, nowMs),
        },
      };
      this.byIdentity.set(name, identity);
    }
    if (identity.connections.size >= this.limits.connectionsPerIdentityMax) return null;
    identity.connections.add(connection);
    return identity.rates;
  }

  /** @param open its socket has yet to send what waits: see {@link left} */
  remove(connection: BrokerClient, open: boolean): boolean {
    if (!this.connections.delete(connection)) return false;
    if (open) this.closing.add(connection);
    const left = (this.byAddress.get(connection.peer) ?? 1) - 1;
    if (left > 0) this.byAddress.set(connection.peer, left);
    else this.byAddress.delete(connection.peer);
    const name = connection.identity?.name;
    const identity = name === undefined ? undefined : this.byIdentity.get(name);
    if (identity?.connections.delete(connection) && identity.connections.size === 0) {
      this.forgetLater(name!, identity);
    }
    this.tell();
    return true;
  }

  /** Its socket is gone. */
  left(connection: BrokerClient): void {
    if (this.closing.delete(connection)) this.tell();
  }

  /** Until nobody is connected, or the deadline. */
  whenEmpty(deadlineMs: number): Promise<void> {
    return this.when(() => this.connections.size === 0, deadlineMs);
  }

  /** Until all sockets that were closed have taken what waited for them, or the deadline. */
  whenSent(deadlineMs: number): Promise<void> {
    return this.when(() => this.closing.size === 0, deadlineMs);
  }

  private forgetLater(name: string, identity: Identity): void {
    const timer = setTimeout(() => {
      if (identity.connections.size > 0 || this.byIdentity.get(name) !== identity) return;
      this.byIdentity.delete(name);
    }, ratesKeptMs);
    timer.unref();
  }

  private tell(): void {
    for (const waiter of [...this.waiters]) waiter();
  }

  private when(done: () => boolean, deadlineMs: number): Promise<void> {
    if (done() || deadlineMs <= 0) return Promise.resolve();
    return new Promise((resolve) => {
      const end = (): void => {
        clearTimeout(timer);
        this.waiters.delete(look);
        resolve();
      };
      const look = (): void => {
        if (done()) end();
      };
      const timer = setTimeout(end, deadlineMs);
      this.waiters.add(look);
    });
  }
}

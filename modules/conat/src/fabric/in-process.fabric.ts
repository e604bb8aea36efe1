import type { PublishOp } from '../broker/parser.js';
import type { Publisher, Subscription } from '../broker/ports.js';
import type { Match } from '../broker/sublist.js';
import { Fabric, type FabricHost } from './fabric.js';

/** One broker by itself: whoever hears a message is in this process. */
export class InProcessFabric extends Fabric {
  readonly status = null;
  private host: FabricHost | null = null;

  join(host: FabricHost): void {
    this.host = host;
  }

  async start(): Promise<void> {}

  admits(): boolean {
    return true;
  }

  subscribed(): void {}

  bounded(): void {}

  unsubscribed(): void {}

  publish(from: Publisher, op: PublishOp, match?: Match<Subscription>): number {
    const host = this.host!;
    return host.deliverTo(match ?? host.match(op.subject), from, op);
  }

  settled(_client: Publisher, done: () => void): void {
    done();
  }

  left(): void {}

  async close(): Promise<void> {}
}

import { setImmediate } from 'node:timers/promises';
import type { OutgoingMove } from '@rookery/move';
import type { Wrap } from './two-hosts.js';

/** Made, not awaited: a stream of bytes. */
const isSend = (port: string, method: string): boolean => port === 'storage' && method === 'send';

/**
 * Lets each call of a port take a while, as real ones do, and remembers which calls were made. Ports
 * in memory forgive an `await` that is missing; these do not.
 */
export class SlowPorts {
  /** What had an effect, in order; a row that was saved with its state. */
  readonly effects: string[] = [];
  /** Calls that were made before the one before had ended. */
  readonly early: string[] = [];
  private underWay: string | undefined;

  get isIdle(): boolean {
    return this.underWay === undefined;
  }

  readonly wrap: Wrap = (name, port) =>
    new Proxy(port, {
      get: (target, key, receiver) => {
        const value: unknown = Reflect.get(target, key, receiver);
        if (typeof value !== 'function') return value;
        const method = String(key);
        if (isSend(name, method)) return value.bind(target) as unknown;
        return async (...args: unknown[]) => {
          if (this.underWay !== undefined) this.early.push(`${method} during ${this.underWay}`);
          this.note(method, args);
          this.underWay = method;
          try {
            await setImmediate();
            return await (value as (...a: unknown[]) => Promise<unknown>).apply(target, args);
          } finally {
            this.underWay = undefined;
          }
        };
      },
    });

  private note(method: string, [first]: unknown[]): void {
    if (/^(?:get|list|outgoing|volume|usage|isFenced)/.test(method)) return;
    const effect = method === 'saveOutgoing' ? `saved ${(first as OutgoingMove).state}` : method;
    this.effects.push(effect);
  }
}

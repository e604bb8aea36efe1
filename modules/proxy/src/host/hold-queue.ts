import type { EventEmitter } from 'node:events';
import type { ProxyLimits } from '../limits.js';
import { ProxyErrors } from '../proxy.errors.js';
import type { HostRoute, RouteTable } from './route-table.js';

interface Waiting {
  readonly wake: () => void;
}

/**
 * Where requests wait while their project is in a move's cutover. Bounded in number and time; the
 * bodies of waiting requests are not read, so waiting costs sockets, not memory.
 */
export class HoldQueue {
  private readonly waiting = new Map<string, Set<Waiting>>();
  private total = 0;
  private readonly stopListening: () => void;

  constructor(
    private readonly routes: RouteTable,
    private readonly limits: ProxyLimits,
  ) {
    this.stopListening = routes.onChange((projectId) => this.wake(projectId));
  }

  /**
   * The project's route once it is not held any more.
   * @param client emits `close` when nobody waits for the answer any more
   * @throws PROXY_PROJECT_HELD when that takes too long, or too many wait already
   */
  settledRoute(
    projectId: string,
    client: EventEmitter,
  ): HostRoute | undefined | Promise<HostRoute | undefined> {
    const route = this.routes.lookup(projectId);
    return route?.state === 'held' ? this.released(projectId, client) : route;
  }

  count(): number {
    return this.total;
  }

  close(): void {
    this.stopListening();
    for (const projectId of this.waiting.keys()) this.wake(projectId);
  }

  private async released(projectId: string, client: EventEmitter): Promise<HostRoute | undefined> {
    let route = this.routes.lookup(projectId);
    const gone = new AbortController();
    const onClose = (): void => gone.abort();
    client.once('close', onClose);
    try {
      const deadline = AbortSignal.any([gone.signal, AbortSignal.timeout(this.limits.holdMs)]);
      while (route?.state === 'held') {
        await this.change(projectId, deadline);
        route = this.routes.lookup(projectId);
      }
      return route;
    } finally {
      client.off('close', onClose);
    }
  }

  private async change(projectId: string, deadline: AbortSignal): Promise<void> {
    const queue = this.waiting.get(projectId) ?? new Set();
    const { heldPerProjectMax, heldMax } = this.limits;
    if (deadline.aborted || queue.size >= heldPerProjectMax || this.total >= heldMax) {
      throw ProxyErrors.PROXY_PROJECT_HELD({ projectId });
    }
    this.waiting.set(projectId, queue);
    this.total += 1;
    let entry!: Waiting;
    await new Promise<void>((resolve) => {
      entry = { wake: resolve };
      queue.add(entry);
      deadline.addEventListener('abort', () => resolve(), { once: true });
    });
    queue.delete(entry);
    this.total -= 1;
    if (queue.size === 0 && this.waiting.get(projectId) === queue) this.waiting.delete(projectId);
    if (deadline.aborted) throw ProxyErrors.PROXY_PROJECT_HELD({ projectId });
  }

  private wake(projectId: string): void {
    for (const { wake } of this.waiting.get(projectId) ?? []) wake();
  }
}

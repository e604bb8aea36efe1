import type { EventEmitter } from 'node:events';
import type { ProxyLimits } from '../limits.js';
import { ProxyErrors } from '../proxy.errors.js';
import { PortProbes, type ProbeTarget } from './port-probes.js';
import type { HostRoute, RouteTable } from './route-table.js';

interface Waiting {
  readonly wake: () => void;
}

/**
 * Where requests wait while their project is in a move's cutover or is started again, and then until
 * the port that they want listens again. Bounded in number and time; the bodies of waiting requests
 * are not read, so waiting costs sockets, not memory.
 */
export class HoldQueue {
  private readonly waiting = new Map<string, Set<Waiting>>();
  private total = 0;
  private readonly probes = new PortProbes((projectId) => this.wake(projectId));
  private readonly stopListening: () => void;

  constructor(
    private readonly routes: RouteTable,
    private readonly limits: ProxyLimits,
  ) {
    this.stopListening = routes.onChange((projectId) => this.wake(projectId));
  }

  /**
   * The project's route once it is not held any more and the port may be asked.
   * @param client emits `close` when nobody waits for the answer any more
   * @throws PROXY_PROJECT_HELD when that takes too long, or too many wait already
   */
  settledRoute(
    projectId: string,
    port: number,
    client: EventEmitter,
  ): HostRoute | undefined | Promise<HostRoute | undefined> {
    const route = this.routes.lookup(projectId);
    return this.mustWait(route, projectId, port) ? this.released(projectId, port, client) : route;
  }

  /** A port that was probed well refused after all: it is waited for again, if it may be. */
  refused(projectId: string, port: number): boolean {
    const route = this.routes.lookup(projectId);
    this.probes.forget(projectId, port);
    return this.mustWait(route, projectId, port);
  }

  count(): number {
    return this.total;
  }

  close(): void {
    this.stopListening();
    this.probes.close();
    for (const projectId of this.waiting.keys()) this.wake(projectId);
  }

  private mustWait(route: HostRoute | undefined, projectId: string, port: number): boolean {
    if (route?.state === 'held') return true;
    if (route?.state === 'stopped') return (route.heldUntil ?? 0) > Date.now();
    const target = targetOf(route, projectId, port);
    return target !== undefined && !this.probes.isAnswering(target);
  }

  private async released(
    projectId: string,
    port: number,
    client: EventEmitter,
  ): Promise<HostRoute | undefined> {
    let route = this.routes.lookup(projectId);
    const gone = new AbortController();
    const onClose = (): void => gone.abort();
    client.once('close', onClose);
    try {
      const deadline = AbortSignal.any([gone.signal, AbortSignal.timeout(this.limits.holdMs)]);
      while (this.mustWait(route, projectId, port)) {
        const target = targetOf(route, projectId, port);
        const release = target && this.probes.want(target);
        try {
          await this.change(projectId, deadline);
        } finally {
          release?.();
        }
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

/** What is to be waited for: a port that answered before the start, while it may still come up. */
function targetOf(
  route: HostRoute | undefined,
  projectId: string,
  port: number,
): ProbeTarget | undefined {
  if (route?.state !== 'running') return undefined;
  const until = route.awaited?.find((each) => each.port === port)?.until;
  if (until === undefined || until <= Date.now()) return undefined;
  const { address, linkIndex } = route;
  return { projectId, address, port, until, ...(linkIndex !== undefined && { linkIndex }) };
}

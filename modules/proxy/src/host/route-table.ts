/** A project as its host's ingress sees it. */
export type HostRoute =
  /**
   * `address` is the container's, without a port; `linkIndex` is the kernel's number of the one
   * link that leads to it. With it, nothing that answers at the address behind another link or
   * route is ever spoken to; without, the address alone is believed. `awaited` answered before its
   * last start and have yet to answer again: until then a refused connection is no answer.
   */
  | {
      readonly state: 'running';
      readonly address: string;
      readonly linkIndex?: number;
      readonly awaited?: readonly AwaitedPort[];
    }
  /** Until `heldUntil` (epoch ms) requests wait: whoever stopped it starts it again. */
  | { readonly state: 'stopped'; readonly heldUntil?: number }
  /** A move is in its cutover: requests wait. */
  | { readonly state: 'held' }
  /** It lives elsewhere now; `newUrl` is the new host's base URL where browsers may go directly. */
  | { readonly state: 'moved'; readonly newUrl?: string };

interface AwaitedPort {
  readonly port: number;
  /** Epoch ms. */
  readonly until: number;
}

/** What the agent tells the ingress about each project of this host. */
export abstract class RouteTable {
  /** Undefined for a project that is not on this host. */
  abstract lookup(projectId: string): HostRoute | undefined;
  /** Calls back with the id after a route has changed; returns how to stop that. */
  abstract onChange(listener: (projectId: string) => void): () => void;
}

/** A table in memory; whoever knows the routes sets them. */
export class MemoryRouteTable extends RouteTable {
  private readonly routes = new Map<string, HostRoute>();
  private readonly listeners = new Set<(projectId: string) => void>();

  lookup(projectId: string): HostRoute | undefined {
    return this.routes.get(projectId);
  }

  onChange(listener: (projectId: string) => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  set(projectId: string, route: HostRoute): void {
    this.routes.set(projectId, route);
    this.changed(projectId);
  }

  delete(projectId: string): void {
    if (this.routes.delete(projectId)) this.changed(projectId);
  }

  /** Makes the table equal to `routes`: what a restarted agent sends first. */
  replaceAll(routes: ReadonlyMap<string, HostRoute>): void {
    for (const projectId of [...this.routes.keys()]) {
      if (!routes.has(projectId)) this.delete(projectId);
    }
    for (const [projectId, route] of routes) this.set(projectId, route);
  }

  private changed(projectId: string): void {
    for (const listener of this.listeners) listener(projectId);
  }
}

import type { ProjectId } from '@rookery/core/contract';

/** One project's end of the network, as the kernel has it. */
export interface ProjectLink {
  readonly projectId: ProjectId;
  readonly name: string;
  /** The kernel gives a number once: it names this link even when another has taken its name. */
  readonly index: number;
  readonly address: string;
}

interface HostRoute {
  /** A bare address is a route to that address alone. */
  readonly dst: string;
  readonly dev?: string | undefined;
  readonly type?: string | undefined;
  readonly metric?: number | undefined;
}

/** The host's whole network as it is. */
export interface NetworkState {
  /** Links with the host's own tag. */
  readonly links: readonly ProjectLink[];
  /** Routes into the host's range. */
  readonly routes: readonly HostRoute[];
  readonly gatewayPresent: boolean;
  readonly forwarding: boolean;
  /** The rules are those that this host has written last. */
  readonly rulesIntact: boolean;
}

/** The host's whole network as it should be. */
export interface NetworkOptions {
  readonly cidr: string;
  /** Projects with a container, or one in the making, and the address that it was given. */
  readonly addresses: ReadonlyMap<ProjectId, string>;
}

/** What has to be done for each kind of difference; the keys are the kinds. */
export interface NetworkActions {
  loadRules: object;
  /** What no link claims is refused, and never leaves by the machine's default route. */
  closeRange: object;
  addGateway: object;
  allowForwarding: object;
  addRoute: { readonly link: ProjectLink };
  /** It is nobody's: its container is gone, or was given another address. */
  deleteLink: { readonly link: ProjectLink };
}

export type NetworkAction = {
  [K in keyof NetworkActions]: { readonly kind: K } & NetworkActions[K];
}[keyof NetworkActions];

/** Compares the whole network with the whole wish. Rules come first: nothing opens before them. */
export function planNetwork(wish: NetworkOptions, state: NetworkState): NetworkAction[] {
  const plan: NetworkAction[] = [];
  if (!state.rulesIntact) plan.push({ kind: 'loadRules' });
  const closed = state.routes.some(
    (route) => route.dst === wish.cidr && route.type === 'unreachable' && !route.metric,
  );
  if (!closed) plan.push({ kind: 'closeRange' });
  if (!state.gatewayPresent) plan.push({ kind: 'addGateway' });
  if (!state.forwarding) plan.push({ kind: 'allowForwarding' });
  for (const link of state.links) {
    if (wish.addresses.get(link.projectId) !== link.address) {
      plan.push({ kind: 'deleteLink', link });
      continue;
    }
    const routed = state.routes.some(
      (route) => route.dst === link.address && route.dev === link.name && !route.metric,
    );
    if (!routed) plan.push({ kind: 'addRoute', link });
  }
  return plan;
}

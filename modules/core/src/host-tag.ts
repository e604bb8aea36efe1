import { createHash } from 'node:crypto';

/** Short, stable name part of one host on this machine: two hosts' names never meet. */
export function hostTag(hostKey: string): string {
  return createHash('sha256').update(hostKey).digest('hex').slice(0, 6);
}

/** Name of the cgroup, beneath each hierarchy's root, that holds a host's containers. */
export function hostCgroup(hostKey: string): string {
  return `rookery-${hostTag(hostKey)}`;
}

/** Every rookery host's links start with this, whichever host of the machine made them. */
export const anyLinkPrefix = 'rk';

/** What a host puts on the machine's network carries its tag: only that may be taken away. */
export interface HostNetworkNames {
  /** Names of the host's ends of its projects' links start with this. */
  readonly linkPrefix: string;
  /** Its nftables table, of family `inet`. */
  readonly table: string;
  /** Label of its gateway address on `lo`. */
  readonly gatewayLabel: string;
}

export function hostNetworkNames(hostKey: string): HostNetworkNames {
  const tag = hostTag(hostKey);
  return {
    linkPrefix: `${anyLinkPrefix}${tag}-`,
    table: `rookery_${tag}`,
    gatewayLabel: `lo:${anyLinkPrefix}${tag}`,
  };
}

/** The routing protocol number of a host's routes: `ip route` shows by it whose they are. */
export const hostRouteProtocol = '171';

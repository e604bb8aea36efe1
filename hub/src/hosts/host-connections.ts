import type { hostBackups, hostCopies, hostProjects, hostSnapshots } from '@rookery/fleet/contract';
import type { ServiceClient } from '@rookery/rpc/contract';
import type { MoveDestinationClient, MoveSourceClient } from '@rookery/move';

export interface HostCallOptions {
  /** How long to wait for a host that is not connected; 0: not at all. */
  readonly patienceMs?: number;
}

/**
 * The services of hosts, over the control network.
 * `source` and `destination` are the two sides of a move.
 * A call to a host that is not connected waits for it for a bounded time, then fails HOST_OFFLINE.
 */
export abstract class HostConnections {
  abstract projects(hostId: string, options?: HostCallOptions): ServiceClient<typeof hostProjects>;
  abstract snapshots(
    hostId: string,
    options?: HostCallOptions,
  ): ServiceClient<typeof hostSnapshots>;
  abstract backups(hostId: string, options?: HostCallOptions): ServiceClient<typeof hostBackups>;
  abstract copies(hostId: string, options?: HostCallOptions): ServiceClient<typeof hostCopies>;
  abstract source(hostId: string, options?: HostCallOptions): MoveSourceClient;
  abstract destination(hostId: string, options?: HostCallOptions): MoveDestinationClient;
}

import type { HostId } from '@rookery/core/contract';
import type { ServiceClient } from '@rookery/rpc/contract';
import type { moveDestination, moveSource } from '@rookery/fleet/contract';

export type MoveSourceClient = ServiceClient<typeof moveSource>;
export type MoveDestinationClient = ServiceClient<typeof moveDestination>;

/** The two hosts' services. */
export abstract class MoveHosts {
  abstract source(hostId: HostId): MoveSourceClient;
  abstract destination(hostId: HostId): MoveDestinationClient;
}

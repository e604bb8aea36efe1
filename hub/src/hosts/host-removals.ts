import { Injectable } from '@nestjs/common';

/** Tells this process's broker that a host is no longer one of ours. */
@Injectable()
export class HostRemovals {
  private readonly listeners = new Set<(hostId: string) => void>();

  onRemoved(listener: (hostId: string) => void): void {
    this.listeners.add(listener);
  }

  removed(hostId: string): void {
    for (const listener of this.listeners) listener(hostId);
  }
}

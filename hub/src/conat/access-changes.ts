import { Injectable } from '@nestjs/common';

/** Tells this process's broker and caches that what an account may do has changed. */
@Injectable()
export class AccessChanges {
  private readonly listeners = new Set<(accountId: string) => void>();

  onChange(listener: (accountId: string) => void): void {
    this.listeners.add(listener);
  }

  accessChanged(accountId: string): void {
    for (const listener of this.listeners) listener(accountId);
  }
}

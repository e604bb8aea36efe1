import { Injectable } from '@nestjs/common';

/** Tells this process's broker and caches that what an account may do has changed. */
@Injectable()
export class AccessChanges {
  private readonly listeners = new Set<(accountId: string) => void>();
  private readonly revocations = new Set<(accountId: string) => void>();

  onChange(listener: (accountId: string) => void): void {
    this.listeners.add(listener);
  }

  onRevoked(listener: (accountId: string) => void): void {
    this.revocations.add(listener);
  }

  accessChanged(accountId: string): void {
    for (const listener of this.listeners) listener(accountId);
  }

  /** A key of the account is gone: its connections must show another one. */
  revoked(accountId: string): void {
    for (const listener of this.revocations) listener(accountId);
  }
}

import { Injectable } from '@nestjs/common';

/**
 * Something that somebody could do may be over (or may have begun).
 * Listeners look up themselves what is allowed now: the change only says where to look.
 */
export type AccessChange =
  /** Rights on a project: one account's, or without `accountId` anybody's (deleted, public ports). */
  | { readonly kind: 'rights'; readonly projectId: string; readonly accountId?: string }
  /**
   * An API key or session is gone; without `credentialId` all of the account's are (it is blocked).
   * What was opened with it must end.
   */
  | { readonly kind: 'credentials'; readonly accountId: string; readonly credentialId?: string }
  /** A host was removed from the fleet. */
  | { readonly kind: 'host'; readonly hostId: string }
  /** Nobody knows what was missed: check everything that is remembered or open. */
  | { readonly kind: 'all' };

type Listener = (change: AccessChange) => void;

/**
 * Tells this hub process of every change of access, whichever process on the same Postgres (or
 * whoever with psql) made it, within two seconds of its commit: `AccessLogReader` brings them. Changes come
 * in the order of their commits, each at least once.
 *
 * Writers do nothing: triggers on the tables record a change in the transaction that makes it.
 */
@Injectable()
export class AccessChanges {
  private readonly listeners = new Set<Listener>();

  /** Listeners must not throw. @returns a function that ends it */
  onChange(listener: Listener): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  /** For the feed alone. */
  publish(change: AccessChange): void {
    for (const listener of [...this.listeners]) listener(change);
  }
}

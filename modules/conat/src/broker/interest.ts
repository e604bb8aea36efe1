import type { Subscription } from './ports.js';
import { audienceOf, hasWildcard, partsOfAudience } from './subjects.js';

export type InterestListener = (interested: boolean) => void;

interface Watch {
  /** A subject, and of whom an interest in it counts: see `audienceOf`. */
  readonly subject: string;
  readonly listeners: Set<InterestListener>;
  interested: boolean;
}

/** `a.b.` of `a.b.c`. */
function prefixOf(audience: string): string {
  const { subject } = partsOfAudience(audience);
  return subject.slice(0, subject.lastIndexOf('.') + 1);
}

/**
 * Literal subjects of which somebody wants to know whether anyone listens. Changes are told at the
 * end of the tick's microtasks, once, and only when they lasted till then.
 *
 * Watched are mostly inboxes, and what comes and goes are mostly `<inbox>.*`: subjects are kept by
 * prefix, so that such a change looks at its own prefix alone.
 */
export class InterestWatches {
  private readonly watches = new Map<string, Watch>();
  private readonly byPrefix = new Map<string, Set<Watch>>();
  private readonly touched = new Set<Watch>();

  constructor(private readonly isInteresting: (subject: string) => boolean) {}

  get size(): number {
    return this.watches.size;
  }

  /** @returns a function that ends it */
  add(subject: string, listener: InterestListener): () => void {
    let watch = this.watches.get(subject);
    if (!watch) {
      watch = { subject, listeners: new Set(), interested: this.isInteresting(subject) };
      this.watches.set(subject, watch);
      const prefix = prefixOf(subject);
      const siblings = this.byPrefix.get(prefix);
      if (siblings) siblings.add(watch);
      else this.byPrefix.set(prefix, new Set([watch]));
    }
    // One function may watch twice: each watch ends by itself.
    const own: InterestListener = (interested) => listener(interested);
    watch.listeners.add(own);
    const watched = watch;
    return () => this.remove(watched, own);
  }

  /** A subscription came or went. */
  changed(subscription: Subscription): void {
    if (this.watches.size === 0) return;
    const { subject, tokens, queue } = subscription;
    if (!hasWildcard(tokens)) {
      for (const audience of new Set([subject, audienceOf(subject, queue)])) {
        const watch = this.watches.get(audience);
        if (watch) this.touch(watch);
      }
      return;
    }
    const last = tokens.length - 1;
    if (tokens[last] === '*' && tokens.indexOf('*') === last) {
      for (const watch of this.byPrefix.get(subject.slice(0, -1)) ?? []) this.touch(watch);
    } else {
      for (const watch of this.watches.values()) this.touch(watch);
    }
  }

  private touch(watch: Watch): void {
    if (this.touched.size === 0) queueMicrotask(() => this.tell());
    this.touched.add(watch);
  }

  private tell(): void {
    const touched = [...this.touched];
    this.touched.clear();
    for (const watch of touched) {
      const interested = this.isInteresting(watch.subject);
      if (interested === watch.interested) continue;
      watch.interested = interested;
      for (const listener of [...watch.listeners]) listener(interested);
    }
  }

  private remove(watch: Watch, listener: InterestListener): void {
    if (!watch.listeners.delete(listener) || watch.listeners.size > 0) return;
    if (this.watches.get(watch.subject) !== watch) return;
    this.watches.delete(watch.subject);
    const prefix = prefixOf(watch.subject);
    const siblings = this.byPrefix.get(prefix);
    siblings?.delete(watch);
    if (siblings?.size === 0) this.byPrefix.delete(prefix);
  }
}

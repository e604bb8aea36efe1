import { Injectable, OnModuleDestroy, OnModuleInit } from '@nestjs/common';
import { CodedError } from '@rookery/core';
import { AccessChanges, type AccessChange } from './access-changes.js';

/** What could not be told (the database is away) is asked again after this. */
const askAgainMs = 1000;
/** Asked at once; the rest after them. */
const askedAtOnceMax = 32;

/** Something long that is open because somebody was let in: events, logs, a terminal. */
export interface OpenThing {
  readonly accountId: string;
  /** Asked again after every change of access that may concern it. @throws what refuses it now */
  readonly check: () => Promise<unknown>;
  /** It may not go on; called once. */
  readonly end: (reason: CodedError) => void;
}

/**
 * What this process holds open for accounts. Each thing was let in by a check; the same check is
 * made again whenever access changes, and ends the thing when it fails.
 *
 * A thing is registered before its first check: what is taken away before that shows there, what
 * is taken away later is told.
 */
@Injectable()
export class OpenAccess implements OnModuleInit, OnModuleDestroy {
  private readonly open = new Set<OpenThing>();
  private readonly waiting = new Set<OpenThing>();
  /** Nobody could say whether they may stay. */
  private readonly untold = new Set<OpenThing>();
  private asking = false;
  private retry: NodeJS.Timeout | undefined;

  constructor(private readonly changes: AccessChanges) {}

  onModuleInit(): void {
    this.changes.onChange((change) => this.hear(change));
  }

  onModuleDestroy(): void {
    clearTimeout(this.retry);
    this.open.clear();
    this.waiting.clear();
  }

  /** Makes the first check. @returns how to close it @throws what refuses it */
  async admit(thing: OpenThing): Promise<() => void> {
    this.open.add(thing);
    const close = (): void => {
      this.open.delete(thing);
      this.waiting.delete(thing);
    };
    try {
      await thing.check();
    } catch (error) {
      close();
      throw error;
    }
    return close;
  }

  private hear(change: AccessChange): void {
    for (const thing of this.open) if (concerns(change, thing)) this.waiting.add(thing);
    void this.ask();
  }

  /** One round at a time: what changes meanwhile is asked in the next. */
  private async ask(): Promise<void> {
    if (this.asking) return;
    this.asking = true;
    const unknown: OpenThing[] = [];
    while (this.waiting.size > 0) {
      const some = [...this.waiting].slice(0, askedAtOnceMax);
      for (const thing of some) this.waiting.delete(thing);
      const answers = await Promise.all(some.map((thing) => this.mayStay(thing)));
      unknown.push(...some.filter((_, index) => answers[index] === undefined));
    }
    this.asking = false;
    this.askAgain(unknown);
  }

  /** Undefined when that cannot be told now. */
  private async mayStay(thing: OpenThing): Promise<boolean | undefined> {
    try {
      await thing.check();
      return true;
    } catch (error) {
      if (!isRefusal(error)) return undefined;
      if (this.open.delete(thing)) thing.end(error);
      return false;
    }
  }

  private askAgain(things: readonly OpenThing[]): void {
    for (const thing of things) this.untold.add(thing);
    if (this.untold.size === 0 || this.retry) return;
    this.retry = setTimeout(() => {
      this.retry = undefined;
      for (const thing of this.untold) if (this.open.has(thing)) this.waiting.add(thing);
      this.untold.clear();
      void this.ask();
    }, askAgainMs).unref();
  }
}

const refusals: ReadonlySet<number> = new Set([401, 403, 404, 410]);

/** An answer, not a failure to answer. */
const isRefusal = (error: unknown): error is CodedError =>
  CodedError.is(error) && refusals.has(error.status);

function concerns(change: AccessChange, { accountId }: OpenThing): boolean {
  switch (change.kind) {
    case 'credentials':
      return change.accountId === accountId;
    case 'rights':
      return change.accountId === undefined || change.accountId === accountId;
    case 'host':
      return false;
    case 'all':
      return true;
  }
}

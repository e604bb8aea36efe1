import type { Clock } from '@rookery/core';
import { JetStreamErrors } from '../jetstream.errors.js';
import type { EngineInput } from '../engine/engine-io.js';
import { AccountSlot } from './account-slot.js';
import {
  commitMsBounds,
  noCounts,
  type AccountCommand,
  type CommandResult,
  type RunnerOptions,
  type RunnerOutput,
} from './runner.js';

/** How often quiet accounts are looked after, and counts reported. */
const tendEveryMs = 1_000;
/** The longest time that a timer of Node takes. */
const timerMsMax = 0x7fff_ffff;

/**
 * The accounts of one thread. Whatever waits is worked on account by account, one transaction
 * each; between two transactions of the same account others have their turn.
 */
export class AccountRuntime {
  private readonly slots = new Map<number, AccountSlot>();
  /** Accounts with inputs, in the order in which they came. */
  private readonly ready = new Set<AccountSlot>();
  private wakeTimer: NodeJS.Timeout | null = null;
  private wakeTimerAtMs = Infinity;
  private readonly tender: NodeJS.Timeout;
  private counts = noCounts();
  private reportedOpen = 0;

  constructor(
    private readonly output: RunnerOutput,
    private readonly clock: Clock,
    private readonly options: RunnerOptions,
  ) {
    this.tender = setInterval(() => this.tend(), tendEveryMs);
    this.tender.unref();
  }

  get openCount(): number {
    let count = 0;
    for (const slot of this.slots.values()) if (slot.isOpen) count += 1;
    return count;
  }

  input(account: number, input: EngineInput): void {
    const slot = this.slots.get(account);
    if (!slot) return;
    slot.mailbox.push(input);
    this.ready.add(slot);
  }

  /** One batch of one account. @returns whether there is more to do */
  workOnce(): boolean {
    const [slot] = this.ready;
    if (!slot) return false;
    this.ready.delete(slot);
    const wasOpen = slot.isOpen;
    if (slot.work()) this.ready.add(slot);
    if (!wasOpen && slot.isOpen) this.makeRoom(slot);
    this.scheduleWake(slot);
    return this.ready.size > 0;
  }

  command(command: number, account: number, what: AccountCommand): void {
    let result: CommandResult;
    try {
      result = { state: this.obey(account, what).state };
    } catch (error) {
      result = { error: error instanceof Error ? error.message : String(error) };
    }
    this.output.done(command, result);
  }

  close(): void {
    clearInterval(this.tender);
    if (this.wakeTimer) clearTimeout(this.wakeTimer);
    while (this.workOnce());
    for (const slot of this.slots.values()) slot.close();
    this.slots.clear();
  }

  private obey(handle: number, what: AccountCommand): AccountSlot {
    if (what.kind === 'open') {
      const slot = new AccountSlot(handle, what.account, this.output, this.clock, this.options, {
        committed: (inputs, ms) => this.committed(inputs, ms),
        refused: (inputs) => (this.counts.refused += inputs),
      });
      this.slots.set(handle, slot);
      slot.start(what.fenced);
      if (slot.isOpen) this.makeRoom(slot);
      this.scheduleWake(slot);
      return slot;
    }
    const slot = this.slots.get(handle);
    if (!slot) throw JetStreamErrors.ACCOUNT_NOT_KEPT({ account: handle });
    if (what.kind === 'fence') slot.fence();
    else if (what.kind === 'unfence') slot.unfence();
    else if (what.kind === 'end-pulls') slot.endPulls();
    else {
      this.ready.delete(slot);
      this.slots.delete(handle);
      slot.close();
    }
    this.scheduleWake(slot);
    return slot;
  }

  private committed(inputs: number, ms: number): void {
    const { counts } = this;
    counts.commits += 1;
    counts.committedInputs += inputs;
    counts.commitMsSum += ms;
    const bucket = commitMsBounds.findIndex((bound) => ms <= bound);
    counts.commitMs[bucket < 0 ? commitMsBounds.length : bucket]! += 1;
  }

  private scheduleWake(slot: AccountSlot): void {
    if (slot.wakeAtMs === null || slot.wakeAtMs >= this.wakeTimerAtMs) return;
    this.wakeTimerAtMs = slot.wakeAtMs;
    if (this.wakeTimer) clearTimeout(this.wakeTimer);
    const ms = Math.min(timerMsMax, Math.max(0, slot.wakeAtMs - this.clock.now()));
    this.wakeTimer = setTimeout(() => this.wakeDue(), ms);
    this.wakeTimer.unref();
  }

  private wakeDue(): void {
    this.wakeTimer = null;
    this.wakeTimerAtMs = Infinity;
    const nowMs = this.clock.now();
    for (const slot of this.slots.values()) {
      if (slot.wakeAtMs !== null && slot.wakeAtMs <= nowMs) {
        const wasOpen = slot.isOpen;
        slot.wake();
        if (!wasOpen && slot.isOpen) this.makeRoom(slot);
      }
      this.scheduleWake(slot);
    }
  }

  private tend(): void {
    const nowMs = this.clock.now();
    for (const slot of this.slots.values()) if (slot.isOpen) slot.tend(nowMs);
    const open = this.openCount;
    const { counts } = this;
    counts.opened = open - this.reportedOpen;
    this.reportedOpen = open;
    this.counts = noCounts();
    if (counts.commits > 0 || counts.refused > 0 || counts.opened !== 0) this.output.report(counts);
  }

  /** Closes what was used least recently: first where nobody waits, then anyone. */
  private makeRoom(opened: AccountSlot): void {
    let tooMany = this.openCount - this.options.limits.openAccountsMax;
    if (tooMany <= 0) return;
    const open = [...this.slots.values()]
      .filter((slot) => slot.isOpen && slot !== opened)
      .sort((a, b) => a.lastUsedMs - b.lastUsedMs);
    const order = [
      ...open.filter((slot) => slot.mayClose()),
      ...open.filter((slot) => !slot.mayClose()),
    ];
    for (const slot of order) {
      if (tooMany <= 0) return;
      slot.close();
      tooMany -= 1;
    }
  }
}

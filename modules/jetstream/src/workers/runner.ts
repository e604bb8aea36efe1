import type { JetStreamAccount } from '../account.js';
import type { EngineInput, OutgoingMessage } from '../engine/engine-io.js';

/** Bounds of what runs accounts. */
export interface RunnerLimits {
  /** Accounts whose file is open at the same time, in one thread. */
  readonly openAccountsMax: number;
  /** A file is closed when nothing happened for so long. */
  readonly idleCloseMs: number;
  /** Bytes on their way to a thread; above it inputs are refused. */
  readonly inputBytesMax: number;
  /** Bytes on their way from a thread; above it it takes no more inputs. */
  readonly outputBytesMax: number;
}

export const runnerLimits: RunnerLimits = {
  openAccountsMax: 256,
  idleCloseMs: 30_000,
  inputBytesMax: 64 * 1024 * 1024,
  outputBytesMax: 32 * 1024 * 1024,
};

export interface RunnerOptions {
  readonly limits: RunnerLimits;
  /** `off` is for the test that proves that fsync matters. */
  readonly synchronous: 'full' | 'off';
}

export type AccountState = 'ready' | 'fenced' | 'quarantined';

/** What was counted since the last report. */
export interface RunnerCounts {
  commits: number;
  /** Inputs that were committed together, summed over the commits. */
  committedInputs: number;
  refused: number;
  /** Files that were opened less those that were closed. */
  opened: number;
  /** Commits by how long they took; the bounds are {@link commitMsBounds}. */
  commitMs: number[];
  commitMsSum: number;
}

export const commitMsBounds: readonly number[] = [0.5, 1, 2, 5, 10, 20, 50, 100, 250, 1_000];

export const noCounts = (): RunnerCounts => ({
  commits: 0,
  committedInputs: 0,
  refused: 0,
  opened: 0,
  commitMs: new Array<number>(commitMsBounds.length + 1).fill(0),
  commitMsSum: 0,
});

/** What comes back from where accounts run. Accounts are named by the numbers they were given. */
export interface RunnerOutput {
  send(account: number, message: OutgoingMessage): void;
  listen(account: number, stream: string, subjects: readonly string[]): void;
  watch(account: number, subject: string): void;
  unwatch(account: number, subject: string): void;
  /** What {@link AccountCommand} asked for is done. */
  done(command: number, result: CommandResult): void;
  /** The file was found damaged and put aside. */
  quarantined(account: number, asideFile: string, reason: string): void;
  problem(account: number, error: string): void;
  report(counts: RunnerCounts): void;
}

/** Who listens to threads, from which much comes at once. */
export interface RunnerListener extends RunnerOutput {
  /** That was all that came together. */
  saidAll(): void;
}

export type CommandResult = { readonly state: AccountState } | { readonly error: string };

export type AccountCommand =
  /** Takes it up; streams' subjects have been told when it is done. */
  | { readonly kind: 'open'; readonly account: JetStreamAccount; readonly fenced: boolean }
  /** Forgets it; its file is closed. */
  | { readonly kind: 'drop' }
  /** Everything is in the one file, which is closed; inputs are refused until `unfence`. */
  | { readonly kind: 'fence' }
  | { readonly kind: 'unfence' }
  /** The server stops: those who wait for messages are told. */
  | { readonly kind: 'end-pulls' };

/** Where accounts run: threads, or this one. */
export abstract class AccountRunner {
  /** @returns false when too much waits already: the caller refuses it */
  abstract input(account: number, input: EngineInput): boolean;
  abstract command(command: number, account: number, what: AccountCommand): void;
  /** Closes all files. */
  abstract close(): Promise<void>;
}

import type { AccountCommand, CommandResult, RunnerCounts, RunnerOptions } from './runner.js';

/** What a thread is started with. */
export interface ThreadData {
  readonly options: RunnerOptions;
  /** One number, which changes with each message to the thread: it may wait for that. */
  readonly bell: Int32Array;
}

/** Bytes that both sides write with WireWriter. */
interface Packed {
  readonly buffer: ArrayBuffer;
  readonly length: number;
}

/** Credit says how many bytes that came from the other side were dealt with. */
export type ToThread =
  | { readonly kind: 'inputs'; readonly packed: Packed; readonly credit: number }
  | {
      readonly kind: 'command';
      readonly command: number;
      readonly account: number;
      readonly what: AccountCommand;
    }
  | { readonly kind: 'credit'; readonly credit: number }
  | { readonly kind: 'close' };

/** Events keep their place between outputs: each goes out with what was said before it. */
export type FromThread =
  | { readonly kind: 'outputs'; readonly packed: Packed; readonly credit: number }
  | { readonly kind: 'credit'; readonly credit: number }
  | { readonly kind: 'done'; readonly command: number; readonly result: CommandResult }
  | {
      readonly kind: 'quarantined';
      readonly account: number;
      readonly asideFile: string;
      readonly reason: string;
    }
  | { readonly kind: 'problem'; readonly account: number; readonly error: string }
  | { readonly kind: 'report'; readonly counts: RunnerCounts }
  | { readonly kind: 'closed' };

import type { AccountCommand, CommandResult, RunnerCounts, RunnerOptions } from './runner.js';

/** What a thread is started with. */
export interface ThreadData {
  readonly options: RunnerOptions;
}

/** Bytes that both sides write with WireWriter. */
interface Packed {
  readonly buffer: ArrayBuffer;
  readonly length: number;
}

export type ToThread =
  | { readonly kind: 'inputs'; readonly packed: Packed }
  | {
      readonly kind: 'command';
      readonly command: number;
      readonly account: number;
      readonly what: AccountCommand;
    }
  /** So many bytes of outputs were dealt with. */
  | { readonly kind: 'credit'; readonly bytes: number }
  | { readonly kind: 'close' };

/** Events keep their place between outputs: each goes out with what was said before it. */
export type FromThread =
  | { readonly kind: 'outputs'; readonly packed: Packed }
  /** So many bytes of inputs were dealt with. */
  | { readonly kind: 'credit'; readonly bytes: number }
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

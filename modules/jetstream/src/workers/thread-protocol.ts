import type { AccountCommand, CommandResult, RunnerCounts, RunnerOptions } from './runner.js';

/** What a thread is started with. */
export interface ThreadData {
  readonly options: RunnerOptions;
}

/**
 * Inputs, or outputs, many or none, with credit: written by WireWriter. A bare buffer, since an
 * object around it would take as long to send as a message.
 */
type Packed = ArrayBuffer;

export type ToThread =
  | Packed
  | {
      readonly kind: 'command';
      readonly command: number;
      readonly account: number;
      readonly what: AccountCommand;
    }
  | { readonly kind: 'close' };

/** Events keep their place between outputs: each goes out with what was said before it. */
export type FromThread =
  | Packed
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

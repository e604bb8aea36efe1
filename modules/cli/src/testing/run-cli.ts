import { PassThrough } from 'node:stream';
import { text } from 'node:stream/consumers';
import type { CliIo } from '../io.js';
import { runCli, type ProgramOptions } from '../program.js';

export interface CliOutcome {
  readonly exit: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface CliOptions extends ProgramOptions {
  readonly env?: NodeJS.ProcessEnv;
  /** Null: stays open. */
  readonly stdin?: string | null;
}

/** A terminal or pipe as far as the command line can tell. */
export class TestIo implements CliIo {
  readonly stdin = Object.assign(new PassThrough(), { isTTY: false, raw: false });
  readonly stdout = Object.assign(new PassThrough(), { isTTY: false, columns: 100, rows: 30 });
  readonly stderr = Object.assign(new PassThrough(), { isTTY: false });
  private readonly listeners = new Map<NodeJS.Signals, Set<() => void>>();

  constructor(readonly env: NodeJS.ProcessEnv) {}

  onSignal(signal: NodeJS.Signals, listener: () => void): () => void {
    const all = this.listeners.get(signal) ?? new Set();
    this.listeners.set(signal, all.add(listener));
    return () => void all.delete(listener);
  }

  raise(signal: NodeJS.Signals): void {
    for (const listener of this.listeners.get(signal) ?? []) listener();
  }

  /** How many listeners a run has left behind. */
  get listening(): number {
    return [...this.listeners.values()].reduce((sum, all) => sum + all.size, 0);
  }
}

/** Runs the command line in this process, as `runProgram` would. */
export async function cli(argv: readonly string[], options: CliOptions = {}): Promise<CliOutcome> {
  const io = new TestIo({ HOME: '/nonexistent', XDG_CONFIG_HOME: '/nonexistent', ...options.env });
  if (options.stdin !== null) io.stdin.end(options.stdin ?? '');
  const out = text(io.stdout);
  const err = text(io.stderr);
  const exit = await runCli(argv, io, options);
  io.stdout.end();
  io.stderr.end();
  return { exit, stdout: await out, stderr: await err };
}

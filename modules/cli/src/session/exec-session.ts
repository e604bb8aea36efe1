import { CodedError } from '@rookery/core';
import type { ExecCall, RookeryClient } from '@rookery/client';
import { CliErrors } from '../cli.errors.js';
import type { CliIo, InputStream, OutputStream, TerminalSize } from '../io.js';
import type { CommandResult } from '../run.js';
import { collectText, pipeOut } from './streams.js';

export interface ExecPlan {
  readonly projectId: string;
  readonly command: string[];
  readonly env: Record<string, string>;
  readonly cwd?: string;
}

/** Sent on to the command instead of ending this process. */
const forwardedSignals = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT', 'SIGUSR2'] as const;
/** That many Ctrl-C give up a command that does not react. */
const interruptsMax = 3;
/** What a shell shows for a program that wrote to a pipe without a reader: 128 + SIGPIPE. */
const exitBrokenPipe = 141;
const defaultSize: TerminalSize = { columns: 80, rows: 24 };

/**
 * Runs a command as if it were local: bytes, signals, terminal size and exit status pass through.
 * @returns the command's exit status
 */
export async function passThroughExec(
  client: RookeryClient,
  plan: ExecPlan,
  io: CliIo,
  tty: boolean,
): Promise<number> {
  const { projectId, env, ...rest } = plan;
  const call = await openExec(client, projectId, {
    ...rest,
    env: tty ? { TERM: io.env['TERM'] ?? 'xterm', ...env } : env,
    ...(tty && { tty: sizeOf(io.stdout) }),
  });
  const undo = [...forwardSignals(io, call), tty ? followTerminal(io, call) : () => undefined];
  try {
    feed(io.stdin, call);
    let readerGone = false;
    const [exit] = await Promise.all([
      call.result.then(
        (result) => result.exit,
        (error: unknown) => {
          if (readerGone) return exitBrokenPipe;
          throw error;
        },
      ),
      pipeOut(call.stdout, io.stdout).then((read) => {
        readerGone = !read;
        if (readerGone) call.cancel();
      }),
      pipeOut(call.stderr, io.stderr).catch((error: unknown) => {
        if (!readerGone) throw error;
      }),
    ]);
    return exit;
  } finally {
    for (const step of undo) step();
    io.stdin.unpipe(call.stdin);
    io.stdin.pause();
  }
}

/** Runs a command and leaves its whole output as one document. */
export async function captureExec(
  client: RookeryClient,
  plan: ExecPlan,
  io: CliIo,
  signal: AbortSignal,
): Promise<CommandResult> {
  const { projectId, ...request } = plan;
  const call = await openExec(client, projectId, request, { signal });
  try {
    if (io.stdin.isTTY) call.stdin.end();
    else feed(io.stdin, call);
    const [{ exit }, stdout, stderr] = await Promise.all([
      call.result,
      collectText(call.stdout),
      collectText(call.stderr),
    ]);
    return { json: { exit, stdout, stderr }, exit };
  } catch (error) {
    call.cancel();
    throw error;
  } finally {
    io.stdin.unpipe(call.stdin);
    io.stdin.pause();
  }
}

/** Backpressure reaches our own stdin; a command that stopped reading is not an error. */
function feed(stdin: InputStream, call: ExecCall): void {
  call.stdin.on('error', () => stdin.unpipe(call.stdin));
  if (stdin.readableEnded || stdin.destroyed) call.stdin.end();
  else stdin.pipe(call.stdin);
}

/** @throws COMMAND_TOO_LONG for what no message carries */
async function openExec(
  client: RookeryClient,
  ...call: Parameters<RookeryClient['exec']>
): Promise<ExecCall> {
  try {
    return await client.exec(...call);
  } catch (error) {
    if (!CodedError.is(error, 'SERVICE_MESSAGE_TOO_LARGE')) throw error;
    const limitBytes = error.details['limitBytes'] ?? '';
    throw CliErrors.COMMAND_TOO_LONG({ limitBytes }, { cause: error });
  }
}

function forwardSignals(io: CliIo, call: ExecCall): (() => void)[] {
  let interrupts = 0;
  return forwardedSignals.map((signal) =>
    io.onSignal(signal, () => {
      if (signal === 'SIGINT') interrupts += 1;
      if (interrupts >= interruptsMax) call.cancel();
      else call.control({ kind: 'signal', signal });
    }),
  );
}

/** Keys go to the command as they are typed, and it hears of resizes. Gives the way back. */
function followTerminal(io: CliIo, call: ExecCall): () => void {
  const wasRaw = io.stdin.isTTY === true;
  const restore = (): void => void (wasRaw && io.stdin.setRawMode?.(false));
  if (wasRaw) io.stdin.setRawMode?.(true);
  // Whatever ends this process, the shell behind it gets a usable terminal back.
  process.once('exit', restore);
  const unlisten = io.onSignal('SIGWINCH', () =>
    call.control({ kind: 'resize', size: sizeOf(io.stdout) }),
  );
  return () => {
    unlisten();
    restore();
    process.off('exit', restore);
  };
}

const sizeOf = (stream: OutputStream): TerminalSize => ({
  columns: clamp(stream.columns, defaultSize.columns),
  rows: clamp(stream.rows, defaultSize.rows),
});

/** Some terminals say 0; the contract allows 1 to 1000. */
const clamp = (value: number | undefined, otherwise: number): number =>
  Math.min(1000, value !== undefined && value > 0 ? value : otherwise);

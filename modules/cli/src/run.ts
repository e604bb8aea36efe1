import { createInterface } from 'node:readline/promises';
import { CommanderError } from 'commander';
import { CoreErrors, toCodedError, type CodedError } from '@rookery/core';
import { RookeryClient, ClientErrors } from '@rookery/client';
import { CliErrors } from './cli.errors.js';
import type { CliEnvironment } from './config/environment.js';
import { findAccess, targetText } from './access.js';
import { writeTo, type CliIo } from './io.js';
import { ProgressView } from './output/progress.js';

/** Options that every command takes. */
export interface GlobalOptions {
  readonly json?: boolean;
  readonly url?: string;
  readonly token?: string;
  readonly context?: string;
  readonly data?: string;
  readonly yes?: boolean;
}

/** What a command leaves: one JSON document or text, and its exit status. */
export interface CommandResult {
  /** An API view as it is, or a list of them; printed with `--json`. */
  readonly json: unknown;
  /** For people; absent or empty: nothing. */
  readonly text?: string;
  /** Default 0. */
  readonly exit?: number;
  /** The command wrote its own output. */
  readonly silent?: boolean;
}

/** One invocation of one command. */
export class CommandRun {
  readonly progress: ProgressView;
  private readonly canceler = new AbortController();
  private connected: RookeryClient | undefined;
  private interruptHint: CodedError | undefined;

  constructor(
    readonly io: CliIo,
    readonly environment: CliEnvironment,
    readonly options: GlobalOptions,
  ) {
    this.progress = ProgressView.on(io.stderr);
  }

  /** Aborts at Ctrl-C. */
  get signal(): AbortSignal {
    return this.canceler.signal;
  }

  get json(): boolean {
    return this.options.json === true;
  }

  /** @throws NOT_LOGGED_IN */
  async client(): Promise<RookeryClient> {
    if (this.connected) return this.connected;
    const access = await findAccess(this.options, this.environment);
    if (access === undefined) throw ClientErrors.NOT_LOGGED_IN();
    const { url, token } = access;
    this.connected = new RookeryClient({ url, ...(token !== undefined && { token }) });
    return this.connected;
  }

  /** Said in place of CANCELED when Ctrl-C ends a command whose work goes on elsewhere. */
  onInterruptSay(hint: CodedError | undefined): void {
    this.interruptHint = hint;
  }

  /** What a person should know although the command has done its work; on stderr. */
  async warn(text: string): Promise<void> {
    this.progress.end();
    await writeTo(this.io.stderr, `${text}\n`);
  }

  /**
   * Comes before anything is destroyed: says where, and asks a person at a terminal. Scripts (no
   * terminal, or `--json`) and `--yes` are not asked.
   * @param target default: the hub that the command talks to
   * @throws CONFIRMATION_REFUSED
   */
  async confirm(question: string, target?: string): Promise<void> {
    const { stdin, stderr } = this.io;
    this.progress.step(`target: ${target ?? (await this.hubText())}`);
    if (this.options.yes === true || this.json || !stdin.isTTY || !stderr.isTTY) return;
    const terminal = createInterface({ input: stdin, output: stderr });
    try {
      const answer = await terminal.question(`${question} [y/N] `, { signal: this.signal });
      if (!/^y(es)?$/i.test(answer.trim())) throw CliErrors.CONFIRMATION_REFUSED();
    } finally {
      terminal.close();
    }
  }

  private async hubText(): Promise<string> {
    const access = await findAccess(this.options, this.environment);
    if (access === undefined) throw ClientErrors.NOT_LOGGED_IN();
    return targetText(access);
  }

  /** Runs a command's handler, prints what it leaves and gives the exit status. */
  async perform(handler: (run: CommandRun) => Promise<CommandResult>): Promise<number> {
    const unlisten = this.io.onSignal('SIGINT', () => this.canceler.abort());
    try {
      const result = await handler(this);
      this.progress.end();
      await this.print(result);
      return result.exit ?? 0;
    } catch (error) {
      this.progress.end();
      if (this.signal.aborted) return await this.interrupted();
      return await printError(this.io, codedOf(error), this.json);
    } finally {
      unlisten();
      await this.connected?.close();
    }
  }

  /** Prints a result now; a command that goes on afterwards calls it itself. */
  async print(result: CommandResult): Promise<void> {
    if (result.silent === true) return;
    if (this.json) await writeTo(this.io.stdout, `${JSON.stringify(result.json, null, 2)}\n`);
    else if (result.text) await writeTo(this.io.stdout, `${result.text}\n`);
  }

  private async interrupted(): Promise<number> {
    const hint = this.interruptHint;
    if (hint && !this.json) await writeTo(this.io.stderr, `${hint.message}\n`);
    else await printError(this.io, hint ?? CoreErrors.CANCELED(), this.json);
    return exitInterrupted;
  }
}

const exitInterrupted = 130;

/** What commander's parsers throw, also when a handler calls them, is wrong usage. */
const codedOf = (error: unknown): CodedError =>
  error instanceof CommanderError
    ? CliErrors.USAGE({ reason: error.message }, { cause: error })
    : toCodedError(error);

/** Says what went wrong on stderr; stdout stays empty. Gives the exit status. */
export async function printError(io: CliIo, error: CodedError, json: boolean): Promise<number> {
  const text = json
    ? JSON.stringify({ error: error.toJSON() })
    : `error: ${error.message} (${error.code})`;
  await writeTo(io.stderr, `${text}\n`);
  return error.code === 'USAGE' ? 2 : 1;
}

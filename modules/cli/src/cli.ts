import type { Command, OptionValues } from 'commander';
import { cliEnvironment } from './config/environment.js';
import type { CliIo } from './io.js';
import { CommandRun, type CommandResult, type GlobalOptions } from './run.js';

/** A group of commands puts itself on the program. */
export type CommandModule = (program: Command, cli: Cli) => void;

/** The handler of one command: its operands in order (absent ones undefined), and its options. */
export type Handler<O> = (
  run: CommandRun,
  operands: readonly (string | undefined)[],
  options: O & GlobalOptions,
) => Promise<CommandResult>;

/** One start of the command line: what its commands share. */
export class Cli {
  exitStatus = 0;

  constructor(readonly io: CliIo) {}

  /** Makes commander's action of a handler. A variadic operand becomes further operands. */
  action<O extends OptionValues>(handler: Handler<O>): (...args: unknown[]) => Promise<void> {
    return async (...args) => {
      const command = args.at(-1) as Command;
      const operands = args.slice(0, -2).flat() as (string | undefined)[];
      const options = command.optsWithGlobals<O & GlobalOptions>();
      const run = new CommandRun(this.io, cliEnvironment(this.io.env), options);
      this.exitStatus = await run.perform((one) => handler(one, operands, options));
    };
  }
}

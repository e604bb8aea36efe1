import { Command, CommanderError } from 'commander';
import { toCodedError } from '@rookery/core';
import { Cli, type CommandModule } from './cli.js';
import { CliErrors } from './cli.errors.js';
import { accountCommands } from './commands/account.js';
import { backupCommands } from './commands/backup.js';
import { conatCommands } from './commands/conat.js';
import { conatConsumerCommands } from './commands/conat-consumers.js';
import { conatKvCommands } from './commands/conat-kv.js';
import { conatMessageCommands } from './commands/conat-messages.js';
import { conatStatusCommands } from './commands/conat-status.js';
import { conatStreamCommands } from './commands/conat-streams.js';
import { completionCommands } from './commands/completion.js';
import { contextCommands } from './commands/context.js';
import { hostCommands } from './commands/host.js';
import { hostCopiesCommands } from './commands/host-copies.js';
import { localCommands } from './commands/local.js';
import { loginCommands } from './commands/login.js';
import { operationCommands } from './commands/operation.js';
import { projectCommands } from './commands/project.js';
import { projectContentCommands } from './commands/project-content.js';
import { projectWorkCommands } from './commands/project-work.js';
import { sessionCommands } from './commands/session.js';
import { shareCommands } from './commands/share.js';
import { snapshotCommands } from './commands/snapshot.js';
import { writeTo, type CliIo } from './io.js';
import { ownVersion } from './parameters.js';
import { printError } from './run.js';

/** All groups, in the order of `--help`, after the local ones. A new group is one more line here. */
const commandModules: readonly CommandModule[] = [
  loginCommands,
  contextCommands,
  projectCommands,
  projectWorkCommands,
  projectContentCommands,
  shareCommands,
  snapshotCommands,
  backupCommands,
  hostCommands,
  hostCopiesCommands,
  operationCommands,
  accountCommands,
  sessionCommands,
  conatCommands,
  conatStatusCommands,
  conatMessageCommands,
  conatStreamCommands,
  conatConsumerCommands,
  conatKvCommands,
  completionCommands,
];

/** What whoever starts the command line adds to it. */
export interface ProgramOptions {
  /**
   * The commands that run hub and hosts on this machine, first in the help. Default: ones that say
   * where they are to be had.
   */
  readonly local?: readonly CommandModule[];
}

/** The whole command tree. */
function buildProgram(cli: Cli, { local = [localCommands] }: ProgramOptions): Command {
  const program = new Command('rookery')
    .description('Runs and keeps containerized projects on a fleet of hosts.')
    .version(ownVersion(), '-V, --version', 'print the version of this program')
    .option('--json', 'print one JSON document on stdout; progress stays on stderr')
    .option('--url <url>', 'hub to talk to (or ROOKERY_URL)')
    .option('--token <token>', 'API key (or ROOKERY_TOKEN)')
    .option('--context <name>', 'login to use (or ROOKERY_CONTEXT), see `rookery context`')
    .option('--data <dir>', 'data folder of a local cluster; its login is used')
    .option('-y, --yes', 'do not ask before something is destroyed')
    .configureHelp({ showGlobalOptions: true, sortSubcommands: false })
    .helpCommand('help [command]', 'show help for a command')
    .addHelpText(
      'after',
      '\nIn the repository, ./rookery has two more: test (its checks and tests) and bench.',
    );
  for (const add of [...local, ...commandModules]) add(program, cli);
  forAll(program, (command) => {
    command.exitOverride().configureOutput({
      writeOut: (text) => void cli.io.stdout.write(text),
      writeErr: (text) => void cli.io.stderr.write(text),
      // Errors are printed once, in one form, by runCli.
      outputError: () => undefined,
    });
  });
  return program;
}

/**
 * Runs the command line.
 * @returns the exit status: 0 done, 1 failed, 2 wrong usage, 130 interrupted; `exec` gives the
 * command's own.
 */
export async function runCli(
  argv: readonly string[],
  io: CliIo,
  options: ProgramOptions = {},
): Promise<number> {
  const cli = new Cli(io);
  const program = buildProgram(cli, options);
  try {
    await program.parseAsync([...argv], { from: 'user' });
    return cli.exitStatus;
  } catch (error) {
    const json = argv.slice(0, argv.indexOf('--') + 1 || undefined).includes('--json');
    if (!(error instanceof CommanderError)) return printError(io, toCodedError(error), json);
    if (error.code === 'commander.helpDisplayed' || error.code === 'commander.version') return 0;
    // A group without its command: commander has shown the group's help.
    if (error.code === 'commander.help') return error.exitCode === 0 ? 0 : 2;
    const reason = error.message.replace(/^error: /, '');
    await printError(io, CliErrors.USAGE({ reason }), json);
    if (!json) await writeTo(io.stderr, `hint: ${hintFor(program, argv)}\n`);
    return 2;
  }
}

/** The help of the command that was meant. */
function hintFor(program: Command, argv: readonly string[]): string {
  const path = [program.name()];
  let command = program;
  for (const word of argv) {
    const next = command.commands.find(
      (one) => one.name() === word || one.aliases().includes(word),
    );
    if (!next) continue;
    path.push(next.name());
    command = next;
  }
  return `see ${path.join(' ')} --help`;
}

function forAll(command: Command, act: (command: Command) => void): void {
  act(command);
  for (const child of command.commands) forAll(child, act);
}

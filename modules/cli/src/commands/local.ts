import type { CommandModule } from '../cli.js';
import { CliErrors } from '../cli.errors.js';
import { examples } from './examples.js';

const commands = {
  up: 'start a hub and hosts on this machine (from the repository)',
  down: 'stop the cluster on this machine (from the repository)',
  status: 'the cluster on this machine (from the repository)',
  join: 'run a host of a hub on this machine (from the repository)',
} as const;

/**
 * Stands in for what runs a hub and hosts on this machine: that needs their programs, which the
 * command line alone does not bring.
 */
export const localCommands: CommandModule = (program, cli) => {
  for (const [name, description] of Object.entries(commands)) {
    program
      .command(name)
      .description(description)
      .argument('[arguments...]')
      .allowUnknownOption()
      .addHelpText('after', examples(`./rookery ${name} --help`))
      .action(
        cli.action(() => {
          throw CliErrors.REPOSITORY_NEEDED({ command: name });
        }),
      );
  }
};

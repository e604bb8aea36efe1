import { Argument, type Command } from 'commander';
import { bashCompletion, fishCompletion, zshCompletion } from '../completion-scripts.js';
import type { CommandModule } from '../cli.js';
import { examples } from './examples.js';

const scripts = { bash: bashCompletion, zsh: zshCompletion, fish: fishCompletion };

/** Shell completion, made from the command tree itself. */
export const completionCommands: CommandModule = (program: Command, cli) => {
  program
    .command('completion')
    .description('a completion script for your shell')
    .addArgument(new Argument('<shell>').choices(Object.keys(scripts)))
    .addHelpText(
      'after',
      examples(
        'source <(rookery completion bash)',
        'rookery completion zsh > "${fpath[1]}/_rookery"',
        'rookery completion fish > ~/.config/fish/completions/rookery.fish',
      ),
    )
    .action(
      cli.action(async (_, [shell = '']) => {
        const script = scripts[shell as keyof typeof scripts](program);
        return { json: { shell, script }, text: script.trimEnd() };
      }),
    );
};

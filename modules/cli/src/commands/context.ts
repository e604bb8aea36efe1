import { ClientErrors } from '@rookery/client';
import { findAccess } from '../access.js';
import { ContextStore, type Context } from '../contexts.js';
import { fields, table } from '../output/table.js';
import type { CommandModule } from '../cli.js';
import type { CommandRun } from '../run.js';
import { examples } from './examples.js';

/** What is shown of a context; never its token. */
const view = (
  { name, url, data }: Context,
  current: string | undefined,
): { name: string; url: string; data: string | null; current: boolean } => ({
  name,
  url,
  data: data ?? null,
  current: name === current,
});

const storeOf = (run: CommandRun): ContextStore => new ContextStore(run.environment.configDir);

/** Which hub the other commands talk to, where there are several. */
export const contextCommands: CommandModule = (program, cli) => {
  const context = program
    .command('context')
    .description('logins with names: which hub the other commands talk to');

  context
    .command('list')
    .alias('ls')
    .description('all contexts; `up` and `login` make them')
    .addHelpText('after', examples('rookery context list', 'rookery context list --json'))
    .action(
      cli.action(async (run) => {
        const current = (await storeOf(run).current())?.name;
        const found = (await storeOf(run).list()).map((one) => view(one, current));
        const rows = found.map((one) => [
          one.current ? '*' : '',
          one.name,
          one.url,
          one.data ?? '-',
        ]);
        return { json: found, text: table(['', 'NAME', 'HUB', 'LOCAL CLUSTER'], rows) };
      }),
    );

  context
    .command('use')
    .description('talk to this hub from now on')
    .argument('<name>')
    .addHelpText('after', examples('rookery context use local'))
    .action(
      cli.action(async (run, [name = '']) => {
        const used = await storeOf(run).use(name);
        return { json: view(used, name), text: `commands go to ${used.url} (context ${name})` };
      }),
    );

  context
    .command('show')
    .description('one context; without a name, what commands talk to now, and why')
    .argument('[name]')
    .addHelpText('after', examples('rookery context show', 'rookery context show local'))
    .action(
      cli.action(async (run, [name]) => {
        if (name !== undefined) {
          const current = (await storeOf(run).current())?.name;
          const found = view(await storeOf(run).get(name), current);
          const { url, data } = found;
          const text = fields({
            Context: name,
            Hub: url,
            'Local cluster': data ?? undefined,
            'In use': found.current ? 'yes' : 'no',
          });
          return { json: found, text };
        }
        const access = await findAccess(run.options, run.environment);
        if (!access) throw ClientErrors.NOT_LOGGED_IN();
        const { url, source } = access;
        return { json: { url, source }, text: fields({ Hub: url, 'Named by': source }) };
      }),
    );

  context
    .command('delete')
    .alias('rm')
    .description('forget a context with its API key; the hub and a cluster stay as they are')
    .argument('<name>')
    .addHelpText('after', examples('rookery context delete old'))
    .action(
      cli.action(async (run, [name = '']) => {
        const { url } = await storeOf(run).get(name);
        await run.confirm(`Forget the context ${name} with its API key?`, url);
        await storeOf(run).delete(name);
        return { json: { name, deleted: true }, text: `${name} is forgotten` };
      }),
    );
};

import { RookeryClient } from '@rookery/client';
import { usageError } from '../cli.errors.js';
import { ContextStore, nameOfHub } from '../contexts.js';
import { ownVersion } from '../parameters.js';
import type { CommandModule } from '../cli.js';
import { examples } from './examples.js';

/** Which hub the other commands talk to. */
export const loginCommands: CommandModule = (program, cli) => {
  program
    .command('login')
    .description('remember a hub and an API key as a context, and use it from now on')
    .argument('<url>', 'where the hub answers')
    .addHelpText(
      'after',
      examples(
        'rookery login https://rookery.example.org --token T',
        'rookery login https://rookery.example.org --token T --context work',
      ),
    )
    .action(
      cli.action(async (run, [url = '']) => {
        const token = run.options.token ?? run.environment.token;
        if (token === undefined) throw usageError('give the API key: --token T');
        if (!URL.canParse(url) || !/^https?:/.test(url)) {
          throw usageError(`${url} is not a URL; write for example https://rookery.example.org`);
        }
        const contexts = new ContextStore(run.environment.configDir);
        const name = run.options.context ?? nameOfHub(url);
        await contexts.requireFree(name, { url });
        const account = await new RookeryClient({ url, token }).getAccount();
        await contexts.keep(name, { url, token });
        await contexts.use(name);
        const text = `logged in to ${url} as ${account.email} (context ${name})`;
        return { json: account, text };
      }),
    );

  program
    .command('logout')
    .description('forget the context in use, with its API key')
    .addHelpText('after', examples('rookery logout', 'rookery logout --context work'))
    .action(
      cli.action(async (run) => {
        const contexts = new ContextStore(run.environment.configDir);
        const name = run.options.context ?? (await contexts.current())?.name;
        if (name !== undefined) await contexts.delete(name);
        const text = name === undefined ? 'no context is in use' : `logged out of ${name}`;
        return { json: { loggedIn: false, context: name ?? null }, text };
      }),
    );

  program
    .command('version')
    .description('version of this program, and of the hub when logged in')
    .addHelpText('after', examples('rookery version --json'))
    .action(
      cli.action(async (run) => {
        const version = ownVersion();
        // A program that cannot reach its hub still knows its own version.
        const hub = await run
          .client()
          .then((client) => client.getHealth({}, { signal: AbortSignal.timeout(3000) }))
          .catch(() => undefined);
        return {
          json: { version, hub: hub?.version ?? null },
          text: hub ? `rookery ${version}, hub ${hub.version}` : `rookery ${version}`,
        };
      }),
    );
};

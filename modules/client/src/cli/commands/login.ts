import { RookeryClient } from '../../sdk/rookery-client.js';
import { usageError } from '../cli.errors.js';
import { removeCredentials, userCredentialsFile, writeCredentials } from '../credentials.js';
import { ownVersion } from '../parameters.js';
import type { CommandModule } from '../cli.js';
import { examples } from './examples.js';

/** Which hub the other commands talk to. */
export const loginCommands: CommandModule = (program, cli) => {
  program
    .command('login')
    .description('remember a hub and an API key; both are tried first')
    .argument('<url>', 'where the hub answers')
    .addHelpText('after', examples('rookery login https://rookery.example.org --token T'))
    .action(
      cli.action(async (run, [url = '']) => {
        const token = run.options.token ?? run.environment.token;
        if (token === undefined) throw usageError('give the API key: --token T');
        if (!URL.canParse(url) || !/^https?:/.test(url)) {
          throw usageError(`${url} is not a URL; write for example https://rookery.example.org`);
        }
        const account = await new RookeryClient({ url, token }).getAccount();
        const file = userCredentialsFile(run.environment);
        await writeCredentials(file, { url, token });
        return { json: account, text: `logged in to ${url} as ${account.email}` };
      }),
    );

  program
    .command('logout')
    .description('forget the hub and the API key')
    .addHelpText('after', examples('rookery logout'))
    .action(
      cli.action(async (run) => {
        await removeCredentials(userCredentialsFile(run.environment));
        return { json: { loggedIn: false }, text: 'logged out' };
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

import { usageError } from '../cli.errors.js';
import type { CommandModule } from '../cli.js';
import { counted, relativeTime } from '../output/format.js';
import { table } from '../output/table.js';
import { collect } from '../resolve.js';
import { examples } from './examples.js';

interface OfAccount {
  readonly account?: string;
}

const accountOption = [
  '--account <account>',
  'id or email of another account (administrators)',
] as const;

/** Browsers that are signed in. */
export const sessionCommands: CommandModule = (program, cli) => {
  const session = program.command('session').description('browsers that are signed in');

  session
    .command('list')
    .alias('ls')
    .description('where you are signed in')
    .option(...accountOption)
    .addHelpText('after', examples('rookery session list'))
    .action(
      cli.action<OfAccount>(async (run, _operands, { account }) => {
        const client = await run.client();
        const found = await collect(client.each('listSessions', { accountId: account }));
        return {
          json: found,
          text: table(
            ['ID', 'KEY', 'ADDRESS', 'SIGNED IN', 'USED', 'EXPIRES', 'BROWSER'],
            found.map((one) => [
              one.id,
              one.keyName,
              one.address,
              relativeTime(one.createdAt),
              relativeTime(one.lastUsedAt),
              relativeTime(one.expiresAt),
              one.userAgent,
            ]),
          ),
        };
      }),
    );

  session
    .command('end')
    .description('sign a browser out, or all of them; what they have open ends')
    .argument('[id]')
    .option('--all', 'sign out everywhere; unused sign-in links end, too, API keys stay')
    .option(...accountOption)
    .addHelpText('after', examples('rookery session end ID', 'rookery session end --all --yes'))
    .action(
      cli.action<OfAccount & { all?: boolean }>(async (run, [id], { all = false, account }) => {
        if ((id === undefined) !== all) throw usageError('give the id of a session, or --all');
        const client = await run.client();
        if (id !== undefined) {
          await client.endSession({ sessionId: id, accountId: account });
          return { json: { id, ended: true }, text: 'signed out' };
        }
        await run.confirm('Sign out everywhere?');
        const { ended } = await client.endSessions({ accountId: account });
        return {
          json: { ended },
          text: `signed out of ${counted(ended, 'browser')}`,
        };
      }),
    );
};

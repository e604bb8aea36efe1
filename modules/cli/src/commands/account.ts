import { relativeTime, yesNo } from '../output/format.js';
import { fields, table } from '../output/table.js';
import { atLeastOne } from '../parameters.js';
import type { CommandModule } from '../cli.js';
import { collect } from '../resolve.js';
import { examples } from './examples.js';

/** Who is logged in, other accounts, and API keys. */
export const accountCommands: CommandModule = (program, cli) => {
  const account = program.command('account').description('accounts');

  account
    .command('show')
    .description('who you are')
    .addHelpText('after', examples('rookery account show'))
    .action(
      cli.action(async (run) => {
        const me = await (await run.client()).getAccount();
        return {
          json: me,
          text: fields({ Id: me.id, Email: me.email, Name: me.name, Admin: yesNo(me.admin) }),
        };
      }),
    );

  account
    .command('list')
    .alias('ls')
    .description('all accounts (administrators)')
    .addHelpText('after', examples('rookery account list'))
    .action(
      cli.action(async (run) => {
        const found = await collect((await run.client()).each('listAccounts'));
        return {
          json: found,
          text: table(
            ['ID', 'EMAIL', 'NAME', 'ADMIN', 'BLOCKED', 'CREATED'],
            found.map((one) => [
              one.id,
              one.email,
              one.name,
              yesNo(one.admin),
              yesNo(one.blocked),
              relativeTime(one.createdAt),
            ]),
          ),
        };
      }),
    );

  account
    .command('create')
    .description('make an account; its token is shown once (administrators)')
    .argument('<email>')
    .option('--name <name>', 'name to show; default: the email')
    .option('--admin', 'may administer hosts and accounts')
    .addHelpText('after', examples('rookery account create someone@example.org'))
    .action(
      cli.action<{ name?: string; admin?: boolean }>(async (run, [email = ''], options) => {
        const client = await run.client();
        const made = await client.createAccount({
          email,
          name: options.name ?? email,
          admin: options.admin ?? false,
        });
        return {
          json: made,
          text: fields({
            Id: made.account.id,
            Email: made.account.email,
            Login: `rookery login ${client.url} --token ${made.token}`,
          }),
        };
      }),
    );

  for (const [name, blocked, description] of [
    ['block', true, 'shut an account out at once; what it owns stays (administrators)'],
    ['unblock', false, 'let a blocked account in again (administrators)'],
  ] as const) {
    account
      .command(name)
      .description(description)
      .argument('<account>', 'id or email')
      .addHelpText('after', examples(`rookery account ${name} someone@example.org`))
      .action(
        cli.action(async (run, [id = '']) => {
          const changed = await (await run.client()).updateAccount({ accountId: id, blocked });
          return { json: changed, text: blocked ? 'blocked' : 'unblocked' };
        }),
      );
  }

  const key = program.command('key').description('API keys');

  key
    .command('list')
    .alias('ls')
    .description('your API keys')
    .addHelpText('after', examples('rookery key list'))
    .action(
      cli.action(async (run) => {
        const found = await collect((await run.client()).each('listApiKeys'));
        return {
          json: found,
          text: table(
            ['ID', 'NAME', 'CREATED', 'USED', 'EXPIRES'],
            found.map((one) => [
              one.id,
              one.name,
              relativeTime(one.createdAt),
              relativeTime(one.lastUsedAt),
              relativeTime(one.expiresAt),
            ]),
          ),
        };
      }),
    );

  key
    .command('create')
    .description('make an API key; its token is shown once')
    .argument('<name>')
    .option('--days <number>', 'how long it is good for; default: for ever', atLeastOne)
    .addHelpText('after', examples('rookery key create ci --days 90'))
    .action(
      cli.action<{ days?: number }>(async (run, [name = ''], { days }) => {
        const made = await (await run.client()).createApiKey({ name, expiresInDays: days });
        return { json: made, text: made.token };
      }),
    );

  key
    .command('delete')
    .alias('rm')
    .description('revoke an API key')
    .argument('<id>')
    .addHelpText('after', examples('rookery key delete ID --yes'))
    .action(
      cli.action(async (run, [keyId = '']) => {
        await run.confirm(`Revoke the API key ${keyId}?`);
        await (await run.client()).deleteApiKey({ keyId });
        return { json: { id: keyId, deleted: true }, text: 'revoked' };
      }),
    );
};

import { ProjectRole } from '@rookery/core/contract';
import { Argument, Option } from 'commander';
import { CliErrors } from '../cli.errors.js';
import { table } from '../output/table.js';
import type { CommandModule } from '../cli.js';
import { findProject } from '../resolve.js';
import { examples } from './examples.js';

/** Who else may use a project. */
export const shareCommands: CommandModule = (program, cli) => {
  const share = program.command('share').description('collaborators of a project');

  share
    .command('list')
    .description('who may use a project')
    .argument('<project>')
    .addHelpText('after', examples('rookery share list hello'))
    .action(
      cli.action(async (run, [name = '']) => {
        const client = await run.client();
        const { id } = await findProject(client, name);
        const { items } = await client.listCollaborators({ projectId: id });
        return {
          json: items,
          text: table(
            ['ACCOUNT', 'EMAIL', 'ROLE'],
            items.map((one) => [one.accountId, one.email, one.role]),
          ),
        };
      }),
    );

  share
    .command('add')
    .description('let an account use a project, or change its role')
    .argument('<project>')
    .addArgument(new Argument('<account>', 'id or email of the account'))
    .addOption(
      new Option('--role <role>', 'what it may do').choices(ProjectRole.options).default('editor'),
    )
    .addHelpText('after', examples('rookery share add hello someone@example.org --role viewer'))
    .action(
      cli.action<{ role: ProjectRole }>(async (run, [name = '', account = ''], { role }) => {
        const client = await run.client();
        const { id } = await findProject(client, name);
        const added = await client.putCollaborator({ projectId: id, accountId: account, role });
        return { json: added, text: `${added.email} is ${added.role}` };
      }),
    );

  share
    .command('remove')
    .alias('rm')
    .description('take the access away')
    .argument('<project>')
    .argument('<account>', 'id or email of the account')
    .addHelpText('after', examples('rookery share remove hello someone@example.org'))
    .action(
      cli.action(async (run, [name = '', account = '']) => {
        const client = await run.client();
        const { id } = await findProject(client, name);
        const { items } = await client.listCollaborators({ projectId: id });
        const email = account.toLowerCase();
        const found = items.find((one) => one.accountId === account || one.email === email);
        if (!found) throw CliErrors.COLLABORATOR_UNKNOWN({ account });
        await client.deleteCollaborator({ projectId: id, accountId: found.accountId });
        return { json: found, text: `${found.email} may not use it any more` };
      }),
    );

  share
    .command('leave')
    .description('give up your own access; the last owner cannot')
    .argument('<project>')
    .addHelpText('after', examples('rookery share leave hello --yes'))
    .action(
      cli.action(async (run, [name = '']) => {
        const client = await run.client();
        const { id, name: title } = await findProject(client, name);
        await run.confirm(`Give up your access to ${title}?`);
        const { id: accountId } = await client.getAccount();
        await client.deleteCollaborator({ projectId: id, accountId });
        return { json: { projectId: id, accountId, left: true }, text: `you have left ${title}` };
      }),
    );
};

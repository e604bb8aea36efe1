import { CoreErrors } from '@rookery/core';
import type { HostCopyView, OperationView } from '@rookery/api';
import type { RookeryClient } from '@rookery/client';
import type { CommandModule } from '../cli.js';
import { follow, finishProjectOperation, startedResult } from '../follow.js';
import { size } from '../output/format.js';
import { table } from '../output/table.js';
import { findHost } from '../resolve.js';
import { examples } from './examples.js';
import { existingGroup } from './groups.js';

/** What hosts hold of projects that they do not run as their own. */
export const hostCopiesCommands: CommandModule = (program, cli) => {
  const host = existingGroup(program, 'host');

  const copies = host
    .command('copies')
    .description('what a host holds of projects that it does not run as its own')
    .argument('<host>')
    .addHelpText(
      'after',
      [
        '\nNothing of it runs or is removed unasked. BELONGS says where the project is: "here" means',
        'that this host owns it and lost its record; "rookery host adopt" takes it back then.',
        examples('rookery host copies host-1', 'rookery host copies delete host-1 hello --yes'),
      ].join('\n'),
    )
    .action(
      cli.action(async (run, [name = '']) => {
        const client = await run.client();
        const { id: hostId } = await findHost(client, name);
        const { items } = await client.listHostCopies({ hostId });
        return { json: items, text: copiesTable(items) };
      }),
    );

  copies
    .command('delete')
    .alias('rm')
    .description('remove copies with their snapshots')
    .argument('<host>')
    .argument('<project...>', 'ids as "host copies" shows them, beginnings of them, or names')
    .option('--no-wait', 'do not wait for the ends; print the operations')
    .addHelpText('after', examples('rookery host copies delete host-1 hello --yes'))
    .action(
      cli.action<{ wait: boolean }>(async (run, names, { wait }) => {
        const client = await run.client();
        const { chosen, hostId, hostName } = await choose(client, names);
        const what = chosen.map(titleOf).join(', ');
        await run.confirm(`Remove from ${hostName} the copies of ${what}, with their snapshots?`);
        const ended: OperationView[] = [];
        for (const { projectId } of chosen) {
          const started = await client.deleteHostCopy({ hostId, projectId });
          ended.push(wait ? await follow(run, client, started.operation) : started.operation);
        }
        const done = wait ? 'removed' : 'being removed';
        return { json: ended, text: `${done} from ${hostName}: ${what}` };
      }),
    );

  copies
    .command('keep')
    .description('keep copies: they stay listed, and count as no problem any more')
    .argument('<host>')
    .argument('<project...>', 'ids as "host copies" shows them, beginnings of them, or names')
    .option('--undo', 'do not keep them any longer')
    .addHelpText('after', examples('rookery host copies keep host-1 hello'))
    .action(
      cli.action<{ undo?: boolean }>(async (run, names, { undo }) => {
        const client = await run.client();
        const { chosen, hostId } = await choose(client, names);
        const changed: HostCopyView[] = [];
        for (const { projectId } of chosen) {
          changed.push(await client.updateHostCopy({ hostId, projectId, kept: undo !== true }));
        }
        return { json: changed, text: copiesTable(changed) };
      }),
    );

  host
    .command('adopt')
    .description('take the files of a project that are on its host’s disk for the project again')
    .argument('<host>')
    .argument('<project>', 'id as "host copies" shows it, beginning of it, or name')
    .option('--no-wait', 'do not wait for the end; print the operation')
    .addHelpText('after', examples('rookery host adopt host-1 hello'))
    .action(
      cli.action<{ wait: boolean }>(async (run, names, { wait }) => {
        const client = await run.client();
        const { chosen, hostId } = await choose(client, names);
        const { projectId } = chosen[0]!;
        const started = await client.adoptHostCopy({ hostId, projectId });
        if (!started.project) {
          // An administrator need not be one of the project's own people.
          if (!wait) return startedResult(started);
          const ended = await follow(run, client, started.operation);
          return { json: ended, text: `${titleOf(chosen[0]!)} is its host’s again` };
        }
        return finishProjectOperation(run, client, started, {
          wait,
          say: (project) => `${project.name} is ${project.state} on ${project.host}`,
        });
      }),
    );
};

/** @throws NOT_FOUND for a name that no copy of the host has, or several have */
async function choose(
  client: RookeryClient,
  [hostArgument = '', ...names]: readonly (string | undefined)[],
) {
  const { id: hostId, name: hostName } = await findHost(client, hostArgument);
  const { items } = await client.listHostCopies({ hostId });
  const chosen = names.map((text = '') => {
    const exact = items.filter(({ projectId, name }) => projectId === text || name === text);
    const found = exact.length > 0 ? exact : items.filter((one) => one.projectId.startsWith(text));
    const [first, ...others] = found;
    if (!first || others.length > 0) throw CoreErrors.NOT_FOUND({ what: 'copy', id: text });
    return first;
  });
  return { hostId, hostName, chosen };
}

const titleOf = ({ name, projectId }: HostCopyView): string =>
  name === null ? projectId : `${name} (${projectId})`;

function copiesTable(copies: readonly HostCopyView[]): string {
  if (copies.length === 0) return 'the host holds nothing but its own projects';
  return table(
    ['PROJECT', 'NAME', 'BELONGS', 'OWNER', 'GENERATION', 'SIZE', 'KEPT'],
    copies.map((one) => [
      one.projectId,
      one.name ?? '-',
      one.belongs,
      one.owner ?? '-',
      one.generation === null ? 'no record' : String(one.generation),
      one.usedBytes === null ? '-' : size(one.usedBytes),
      one.kept ? 'kept' : 'no',
    ]),
  );
}

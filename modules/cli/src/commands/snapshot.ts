import type { z } from 'zod';
import type { SnapshotView } from '@rookery/api';
import { finishProjectOperation } from '../follow.js';
import { relativeTime, size, yesNo } from '../output/format.js';
import { table } from '../output/table.js';
import type { Cli, CommandModule } from '../cli.js';
import type { Command } from 'commander';
import { findProject } from '../resolve.js';
import { examples } from './examples.js';

/** Points in time of a project on its own host. */
export const snapshotCommands: CommandModule = (program, cli) => {
  const snapshot = program.command('snapshot').description('snapshots of a project');

  snapshot
    .command('create')
    .description('take a snapshot')
    .argument('<project>')
    .argument('[name]', 'default: the time')
    .addHelpText('after', examples('rookery snapshot create hello before-upgrade'))
    .action(
      cli.action(async (run, [project = '', name]) => {
        const client = await run.client();
        const { id } = await findProject(client, project);
        const made = await client.createSnapshot({ projectId: id, name });
        return { json: made, text: `snapshot ${made.name}` };
      }),
    );

  snapshot
    .command('list')
    .alias('ls')
    .description('snapshots of a project')
    .argument('<project>')
    .addHelpText('after', examples('rookery snapshot list hello'))
    .action(
      cli.action(async (run, [project = '']) => {
        const client = await run.client();
        const { id } = await findProject(client, project);
        const { items } = await client.listSnapshots({ projectId: id });
        return { json: items, text: snapshotTable(items) };
      }),
    );

  snapshot
    .command('restore')
    .description('go back to a snapshot: one path, or the whole project (stopped for it)')
    .argument('<project>')
    .argument('<name>')
    .option('--path <path>', 'only this path, relative to the home directory')
    .option('--no-wait', 'do not wait for the end; print the operation')
    .addHelpText(
      'after',
      examples(
        'rookery snapshot restore hello before-upgrade',
        'rookery snapshot restore hello before-upgrade --path www/index.html',
      ),
    )
    .action(
      cli.action<{ path?: string; wait: boolean }>(
        async (run, [project = '', name = ''], { path, wait }) => {
          const client = await run.client();
          const found = await findProject(client, project);
          const what = path ?? `all of ${found.name}`;
          await run.confirm(`Replace ${what} with what it was in snapshot ${name}?`);
          const started = await client.restoreSnapshot({ projectId: found.id, name, path });
          return finishProjectOperation(run, client, started, {
            wait,
            say: () => `${what} is as in ${name}`,
          });
        },
      ),
    );

  setLocked(snapshot, cli, 'lock', true);
  setLocked(snapshot, cli, 'unlock', false);

  snapshot
    .command('delete')
    .alias('rm')
    .description('delete a snapshot')
    .argument('<project>')
    .argument('<name>')
    .addHelpText('after', examples('rookery snapshot delete hello before-upgrade --yes'))
    .action(
      cli.action(async (run, [project = '', name = '']) => {
        const client = await run.client();
        const found = await findProject(client, project);
        await run.confirm(`Delete snapshot ${name} of ${found.name}?`);
        await client.deleteSnapshot({ projectId: found.id, name });
        return { json: { projectId: found.id, name, deleted: true }, text: `${name} is deleted` };
      }),
    );
};

function setLocked(group: Command, cli: Cli, verb: string, locked: boolean): void {
  group
    .command(verb)
    .description(locked ? 'keep a snapshot from being deleted' : 'let a snapshot be deleted again')
    .argument('<project>')
    .argument('<name>')
    .addHelpText('after', examples(`rookery snapshot ${verb} hello before-upgrade`))
    .action(
      cli.action(async (run, [project = '', name = '']) => {
        const client = await run.client();
        const { id } = await findProject(client, project);
        const changed = await client.updateSnapshot({ projectId: id, name, locked });
        return { json: changed, text: `${name} is ${verb}ed` };
      }),
    );
}

function snapshotTable(snapshots: readonly z.output<typeof SnapshotView>[]): string {
  return table(
    ['NAME', 'CREATED', 'OWN SIZE', 'LOCKED'],
    snapshots.map((one) => [
      one.name,
      relativeTime(one.createdAt),
      size(one.exclusiveBytes),
      yesNo(one.locked),
    ]),
  );
}

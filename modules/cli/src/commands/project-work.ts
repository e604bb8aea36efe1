import type { ProjectView } from '@rookery/api';
import { finishProjectOperation } from '../follow.js';
import { count } from '../parameters.js';
import type { CommandModule } from '../cli.js';
import { findProject } from '../resolve.js';
import { projectActivity } from './project.js';
import { existingGroup } from './groups.js';
import { examples } from './examples.js';

const noWait = ['--no-wait', 'do not wait for the end; print the operation'] as const;
const toHost = ['--to <host>', 'id or name of a host; default: placement chooses'] as const;

const isOn = (project: ProjectView): string =>
  `${project.name} is ${projectActivity(project)} on ${project.host}`;

const keptIn = (snapshot: unknown): string =>
  typeof snapshot === 'string' ? `; what was there is in snapshot ${snapshot}` : '';

const rescueHelp = `
In rescue mode /rescue holds what the project has changed in its own root filesystem: a file that is
removed there is the image's again. The rescue's own root filesystem is thrown away at the next
start. A start without --rescue takes the project's own again.
`;

/** Long work on one project: starting, stopping, moving, copying, archiving. */
export const projectWorkCommands: CommandModule = (program, cli) => {
  const project = existingGroup(program, 'project');

  project
    .command('start')
    .description('start a project; one that runs stays as it is')
    .argument('<project>')
    .option(
      '--rescue',
      'with a clean root filesystem; what its own holds is at /rescue, to be repaired or copied',
    )
    .option(...noWait)
    .addHelpText(
      'after',
      examples('rookery project start hello', 'rookery project start hello --rescue') + rescueHelp,
    )
    .action(
      cli.action<{ rescue?: boolean; wait: boolean }>(async (run, [name = ''], options) => {
        const { rescue = false, wait } = options;
        const client = await run.client();
        const { id } = await findProject(client, name);
        const started = await client.startProject({ projectId: id, rescue });
        return finishProjectOperation(run, client, started, { wait, say: isOn });
      }),
    );

  project
    .command('reset-rootfs')
    .description('begin the root filesystem anew from the image (stopped for it); home stays')
    .argument('<project>')
    .option('--discard', 'keep no snapshot of what was there')
    .option(...noWait)
    .addHelpText('after', examples('rookery project reset-rootfs hello'))
    .action(
      cli.action<{ discard?: boolean; wait: boolean }>(async (run, [name = ''], options) => {
        const { discard = false, wait } = options;
        const client = await run.client();
        const found = await findProject(client, name);
        const kept = discard ? 'All that was changed in it is lost.' : 'A snapshot keeps it.';
        await run.confirm(`Begin the root filesystem of ${found.name} (${found.id}) anew? ${kept}`);
        const started = await client.resetRootfs({ projectId: found.id, discard });
        return finishProjectOperation(run, client, started, {
          wait,
          say: (project, { result }) => `${isOn(project)}${keptIn(result?.['previous'])}`,
        });
      }),
    );

  project
    .command('stop')
    .description('stop a project: SIGTERM, and SIGKILL after the grace')
    .argument('<project>')
    .option('--grace <seconds>', 'time to end by itself', count, 10)
    .option(...noWait)
    .addHelpText('after', examples('rookery project stop hello --grace 30'))
    .action(
      cli.action<{ grace: number; wait: boolean }>(async (run, [name = ''], options) => {
        const client = await run.client();
        const { id } = await findProject(client, name);
        const started = await client.stopProject({ projectId: id, graceMs: options.grace * 1000 });
        return finishProjectOperation(run, client, started, { wait: options.wait, say: isOn });
      }),
    );

  project
    .command('move')
    .description('move a project to another host while it runs')
    .argument('<project>')
    .option(...toHost)
    .option(...noWait)
    .addHelpText('after', examples('rookery project move hello --to host-2'))
    .action(
      cli.action<{ to?: string; wait: boolean }>(async (run, [name = ''], { to, wait }) => {
        const client = await run.client();
        const { id } = await findProject(client, name);
        const started = await client.moveProject({ projectId: id, host: to });
        return finishProjectOperation(run, client, started, { wait, say: isOn });
      }),
    );

  interface CloneOptions {
    readonly name?: string;
    readonly to?: string;
    readonly snapshot?: string;
    readonly start?: boolean;
    readonly wait: boolean;
  }
  project
    .command('clone')
    .alias('copy')
    .description('make a new project with the same content')
    .argument('<project>')
    .option('--name <name>', 'name of the new project; default: NAME-copy')
    .option('--snapshot <name>', 'content of this snapshot; default: as it is now')
    .option(...toHost)
    .option('--start', 'start the new project')
    .option(...noWait)
    .addHelpText('after', examples('rookery project clone hello --name try-out --start'))
    .action(
      cli.action<CloneOptions>(async (run, [source = ''], options) => {
        const client = await run.client();
        const from = await findProject(client, source);
        const started = await client.cloneProject({
          projectId: from.id,
          name: options.name ?? `${from.name}-copy`,
          snapshot: options.snapshot,
          host: options.to,
          start: options.start ?? false,
        });
        return finishProjectOperation(run, client, started, { wait: options.wait, say: isOn });
      }),
    );

  project
    .command('archive')
    .description('back up, read the backup back, and free the disk; locked snapshots prevent it')
    .argument('<project>')
    .option(...noWait)
    .addHelpText('after', examples('rookery project archive old'))
    .action(
      cli.action<{ wait: boolean }>(async (run, [name = ''], { wait }) => {
        const client = await run.client();
        const { id } = await findProject(client, name);
        const started = await client.archiveProject({ projectId: id });
        return finishProjectOperation(run, client, started, {
          wait,
          say: (view) => `${view.name} is ${view.state}`,
        });
      }),
    );

  interface RehydrateOptions {
    readonly to?: string;
    readonly start?: boolean;
    readonly wait: boolean;
  }
  project
    .command('rehydrate')
    .description('bring an archived project back from its backup')
    .argument('<project>')
    .option(...toHost)
    .option('--start', 'start it afterwards')
    .option(...noWait)
    .addHelpText('after', examples('rookery project rehydrate old --start'))
    .action(
      cli.action<RehydrateOptions>(async (run, [name = ''], options) => {
        const client = await run.client();
        const { id } = await findProject(client, name);
        const started = await client.rehydrateProject({
          projectId: id,
          host: options.to,
          start: options.start ?? false,
        });
        return finishProjectOperation(run, client, started, { wait: options.wait, say: isOn });
      }),
    );
};

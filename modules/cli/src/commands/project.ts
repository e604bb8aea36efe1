import { Option, type Command } from 'commander';
import type { Egress, EgressMode } from '@rookery/core/contract';
import type { ProjectView } from '@rookery/api';
import { finishProjectOperation, follow, startedResult } from '../follow.js';
import { relativeTime, shortId, usage } from '../output/format.js';
import { fields, table } from '../output/table.js';
import { usageError } from '../cli.errors.js';
import { bytes, egressTargets, ports, positive } from '../parameters.js';
import type { CommandModule } from '../cli.js';
import { collect, findHost, findProject } from '../resolve.js';
import { examples } from './examples.js';

interface QuotaOptions {
  readonly disk?: number;
  readonly memory?: number;
  readonly cpu?: number;
  readonly pids?: number;
}

interface EgressOptions {
  readonly egress?: EgressMode | 'host';
  readonly egressAllow?: string[];
}

interface CreateOptions extends QuotaOptions, EgressOptions {
  readonly image?: string;
  readonly host?: string;
  readonly start?: boolean;
  readonly wait: boolean;
}

interface UpdateOptions extends QuotaOptions, EgressOptions {
  readonly name?: string;
  readonly publicPorts?: number[];
}

/** Making, finding, changing and deleting projects. */
export const projectCommands: CommandModule = (program, cli) => {
  const project = program.command('project').description('projects');

  withQuota(
    project
      .command('create')
      .description('make a project, place it on a host, and start it when asked')
      .argument('<name>')
      .option('--image <ref>', 'image reference; default: the hub’s base image')
      .option('--host <host>', 'id or name of a host; default: placement chooses')
      .addOption(egressOption())
      .addOption(egressAllowOption()),
  )
    .option('--start', 'start it at once')
    .option('--no-wait', 'do not wait for the end; print the operation')
    .addHelpText('after', examples('rookery project create web --disk 20G --memory 4G --start'))
    .action(
      cli.action<CreateOptions>(async (run, [name = ''], options) => {
        const client = await run.client();
        const started = await client.createProject(
          {
            name,
            image: options.image,
            host: options.host,
            quota: quotaOf(options),
            egress: egressOf(options) ?? undefined,
            start: options.start ?? false,
          },
          { signal: run.signal },
        );
        return finishProjectOperation(run, client, started, {
          wait: options.wait,
          say: (made) => `${made.name} (${made.id}) is ${made.state} on ${made.host}\n${made.url}`,
        });
      }),
    );

  project
    .command('list')
    .alias('ls')
    .description('the projects that you can see')
    .option('--host <host>', 'only those on this host')
    .addHelpText('after', examples('rookery project list', 'rookery project list --json'))
    .action(
      cli.action<{ host?: string }>(async (run, _, options) => {
        const client = await run.client();
        const hostId = options.host && (await findHost(client, options.host)).id;
        const found = await collect(client.each('listProjects', hostId ? { hostId } : {}));
        return { json: found, text: projectTable(found) };
      }),
    );

  project
    .command('show')
    .description('one project')
    .argument('<project>', 'id, name, or beginning of the id')
    .addHelpText('after', examples('rookery project show hello'))
    .action(
      cli.action(async (run, [name = '']) => {
        const found = await findProject(await run.client(), name);
        return { json: found, text: projectFields(found) };
      }),
    );

  withQuota(
    project
      .command('update')
      .alias('set')
      .description('rename, change the quota, the public ports or what it may reach')
      .argument('<project>')
      .option('--name <name>', 'new name')
      .option('--public-ports <ports>', 'ports that answer without a login, as 8080,3000', ports)
      .addOption(egressOption())
      .addOption(egressAllowOption()),
  )
    .addHelpText(
      'after',
      examples('rookery project update hello --name web --disk 20G --public-ports 8080'),
    )
    .action(
      cli.action<UpdateOptions>(async (run, [name = ''], options) => {
        const client = await run.client();
        const { id } = await findProject(client, name);
        const quota = quotaOf(options);
        const egress = egressOf(options);
        const changed = await client.updateProject({
          projectId: id,
          ...(options.name !== undefined && { name: options.name }),
          ...(options.publicPorts && { publicPorts: options.publicPorts }),
          ...(Object.keys(quota).length > 0 && { quota }),
          ...(egress !== undefined && { egress }),
        });
        return { json: changed, text: projectFields(changed) };
      }),
    );

  project
    .command('delete')
    .alias('rm')
    .description('delete a project with its files and snapshots; backups stay')
    .argument('<project>')
    .option('--force', 'also when it runs')
    .option('--no-wait', 'do not wait for the end; print the operation')
    .addHelpText('after', examples('rookery project delete old --yes'))
    .action(
      cli.action<{ force?: boolean; wait: boolean }>(async (run, [name = ''], options) => {
        const client = await run.client();
        const found = await findProject(client, name);
        await run.confirm(`Delete ${found.name} (${found.id}) with all its files and snapshots?`);
        const started = await client.deleteProject({
          projectId: found.id,
          force: options.force ? 'true' : 'false',
        });
        if (!options.wait) return startedResult(started);
        const json = await follow(run, client, started.operation);
        return { json, text: `${found.name} is deleted` };
      }),
    );
};

function withQuota(command: Command): Command {
  return command
    .option('--disk <size>', 'disk limit, as 10G', bytes)
    .option('--memory <size>', 'memory limit, as 2G', bytes)
    .option('--cpu <number>', 'processors, as 2 or 0.5', positive)
    .option('--pids <number>', 'processes and threads', positive);
}

const egressOption = (): Option =>
  new Option(
    '--egress <mode>',
    'what it may reach: nothing, what --egress-allow lists, the internet, private networks too, or what its host allows',
  ).choices(['none', 'allow-list', 'internet', 'open', 'host']);

const egressAllowOption = (): Option =>
  new Option(
    '--egress-allow <list>',
    'with the mode allow-list: as 203.0.113.0/24:443,10.0.0.5:5432/tcp',
  ).argParser(egressTargets);

/** Null: what the host allows; undefined: nothing was said. */
function egressOf({ egress, egressAllow }: EgressOptions): Egress | null | undefined {
  const mode = egress ?? (egressAllow ? 'allow-list' : undefined);
  if (mode === undefined) return undefined;
  if (egressAllow && mode !== 'allow-list') {
    throw usageError('--egress-allow belongs to --egress allow-list');
  }
  return mode === 'host' ? null : { mode, allow: egressAllow ?? [] };
}

const egressText = (egress: Egress | null): string =>
  egress === null ? 'what its host allows' : [egress.mode, ...egress.allow].join(' ');

function quotaOf(options: QuotaOptions): Record<string, number> {
  return {
    ...(options.disk !== undefined && { diskBytes: options.disk }),
    ...(options.memory !== undefined && { memoryBytes: options.memory }),
    ...(options.cpu !== undefined && { cpus: options.cpu }),
    ...(options.pids !== undefined && { pidsMax: options.pids }),
  };
}

/** What a project does just now, in a word or two. */
export const projectActivity = ({ state, rescue, move }: ProjectView): string =>
  `${state}${rescue ? ' in rescue mode' : ''}${move ? `, move ${move.state}` : ''}`;

function projectTable(projects: readonly ProjectView[]): string {
  return table(
    ['ID', 'NAME', 'STATE', 'HOST', 'DISK', 'BACKUP', 'CREATED'],
    projects.map((project) => [
      shortId(project.id),
      project.name,
      projectActivity(project),
      project.host ?? '-',
      usage(project.diskUsedBytes, project.quota.diskBytes),
      relativeTime(project.lastBackupAt),
      relativeTime(project.createdAt),
    ]),
  );
}

function projectFields(project: ProjectView): string {
  const { quota, error } = project;
  return fields({
    Id: project.id,
    Name: project.name,
    State: projectActivity(project),
    Host: project.host ?? '-',
    Url: project.url,
    Image: project.image,
    Disk: usage(project.diskUsedBytes, quota.diskBytes),
    Memory: usage(null, quota.memoryBytes),
    Cpus: String(quota.cpus),
    'Public ports': project.publicPorts.join(', ') || undefined,
    Egress: egressText(project.egress),
    'Your role': project.role,
    'Last backup': relativeTime(project.lastBackupAt),
    Created: relativeTime(project.createdAt),
    Problem: error ? `${error.message} (${error.code})` : undefined,
  });
}

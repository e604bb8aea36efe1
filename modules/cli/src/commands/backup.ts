import { CoreErrors } from '@rookery/core';
import type { BackupView, ProjectBackupsView, ProjectView } from '@rookery/api';
import type { RookeryClient } from '@rookery/client';
import { CliErrors, usageError } from '../cli.errors.js';
import { finishProjectOperation, follow, startedResult } from '../follow.js';
import { counted, relativeTime, shortId, size } from '../output/format.js';
import { table } from '../output/table.js';
import type { CommandModule } from '../cli.js';
import { collect, findHost, findProject } from '../resolve.js';
import type { CommandResult, CommandRun } from '../run.js';
import { examples } from './examples.js';

interface RestoreOptions {
  readonly to?: string;
  readonly path?: string;
  readonly replace?: boolean;
  readonly discard?: boolean;
  readonly as?: string;
  readonly from?: string;
  readonly owner?: string;
  readonly newId?: boolean;
  readonly start?: boolean;
  readonly wait: boolean;
}

interface ListOptions {
  readonly host?: string;
  readonly unknown?: boolean;
}

/** Copies of a project outside its host. */
export const backupCommands: CommandModule = (program, cli) => {
  const backup = program.command('backup').description('backups of a project');

  backup
    .command('init')
    .description('make the backup repository of a host; nothing else makes one')
    .argument('<host>', 'id, name, or beginning of the id')
    .option('--adopt', 'use what lies there even if the host has used another repository so far')
    .addHelpText('after', examples('rookery backup init host-1'))
    .action(
      cli.action<{ adopt?: boolean }>(async (run, [name = ''], { adopt = false }) => {
        const client = await run.client();
        const { id } = await findHost(client, name);
        const made = await client.initBackupRepository({ hostId: id, adopt });
        return { json: made, text: `${made.name} is repository ${made.id}` };
      }),
    );

  backup
    .command('run')
    .description('back a project up now')
    .argument('<project>')
    .option('--no-wait', 'do not wait for the end; print the operation')
    .addHelpText('after', examples('rookery backup run hello'))
    .action(
      cli.action<{ wait: boolean }>(async (run, [name = ''], { wait }) => {
        const client = await run.client();
        const { id } = await findProject(client, name);
        const started = await client.runBackup({ projectId: id });
        if (!wait) return startedResult(started);
        const ended = await follow(run, client, started.operation);
        const { items } = await client.listBackups({ projectId: id });
        const made = items.find((one) => one.id === ended.result?.['backupId']) ?? items[0];
        return made
          ? { json: made, text: `backup ${shortId(made.id)}: ${describe(made)}` }
          : { json: ended };
      }),
    );

  backup
    .command('list')
    .alias('ls')
    .description('backups of a project, newest first; of a host’s repository, by project')
    .argument('[project]')
    .option('--host <host>', 'all that the repository of this host holds (administrators)')
    .option('--unknown', 'with --host: only projects that the hub does not have')
    .addHelpText(
      'after',
      examples('rookery backup list hello', 'rookery backup list --host host-1 --unknown'),
    )
    .action(
      cli.action<ListOptions>(async (run, [name], { host, unknown = false }) => {
        if (unknown && host === undefined) throw usageError('--unknown needs --host');
        const one = oneOf(name, host);
        const client = await run.client();
        if ('project' in one) {
          const { id } = await findProject(client, one.project);
          const found = await collect(client.each('listBackups', { projectId: id }));
          return { json: found, text: backupTable(found) };
        }
        const { id } = await findHost(client, one.host);
        const groups = await listGroups(client, id, unknown);
        return { json: groups, text: groupTable(groups) };
      }),
    );

  backup
    .command('reindex')
    .description('look into the repository and list what it holds')
    .argument('[project]')
    .option('--host <host>', 'all projects in the repository of this host (administrators)')
    .addHelpText(
      'after',
      examples('rookery backup reindex hello', 'rookery backup reindex --host host-1'),
    )
    .action(
      cli.action<{ host?: string }>(async (run, [name], { host }) => {
        const one = oneOf(name, host);
        const client = await run.client();
        if ('host' in one) {
          const { id } = await findHost(client, one.host);
          const found = await client.reindexHostBackups({ hostId: id });
          const text = `${counted(found.backups, 'backup')} of ${counted(found.projects, 'project')}`;
          return { json: found, text };
        }
        const { id } = await findProject(client, one.project);
        const found = await client.reindexBackups({ projectId: id });
        const note = found.asked ? '' : ' (no host with a repository answered)';
        return { json: found, text: `${counted(found.backups, 'backup')}${note}` };
      }),
    );

  backup
    .command('restore')
    .description('restore into a new project, in place of this one, or one path')
    .argument('<project>')
    .argument('[id]', 'a backup, or the beginning of its id', 'latest')
    .option('--to <host>', 'id or name of the host that gets it; default: placement chooses')
    .option('--path <path>', 'only this path, relative to the home directory')
    .option('--replace', 'in place of the project; its present files stay as a snapshot')
    .option('--discard', 'with --replace: keep nothing but snapshots that are locked')
    .option('--as <name>', 'name of the new project')
    .option('--from <host>', 'of a project that the hub does not have, in this host’s repository')
    .option('--owner <account>', 'with --from: id or email of its owner; default: you')
    .option('--new-id', 'with --from: under a new id, although its own is free')
    .option('--start', 'start it afterwards')
    .option('--no-wait', 'do not wait for the end; print the operation')
    .addHelpText(
      'after',
      examples(
        'rookery backup restore hello --as hello-again --start',
        'rookery backup restore hello latest --replace --to host-2',
        'rookery backup restore hello 4f2a91c0 --path notes.txt',
        'rookery backup restore 3e1c90d2 --from host-1 --as found --owner ann@example.org',
      ),
    )
    .action(
      cli.action<RestoreOptions>(async (run, [name = '', backupId = 'latest'], options) => {
        refuseTogether(options);
        if (options.from !== undefined) return adopt(run, name, backupId, options, options.from);
        const client = await run.client();
        const found = await findProject(client, name);
        if (options.replace) {
          const lost = options.discard ? ' What it holds now is lost.' : '';
          const which = `${found.name} (${found.id})`;
          await run.confirm(`Replace all files of ${which} with the backup?${lost}`);
        }
        const started = await client.restoreBackup({
          projectId: found.id,
          backupId: await fullBackupId(client, found.id, backupId),
          host: options.to,
          path: options.path,
          replace: options.replace ?? false,
          discard: options.discard ?? false,
          name: options.as,
          start: options.start ?? false,
        });
        return finishProjectOperation(run, client, started, { wait: options.wait, say: restored });
      }),
    );
};

const restored = (project: ProjectView): string =>
  `${project.name} (${project.id}) is ${project.state} on ${project.host}`;

function refuseTogether({ from, replace, discard, as, path, owner, newId }: RestoreOptions): void {
  if (replace && as !== undefined) throw usageError('--replace and --as exclude each other');
  if (discard && !replace) throw usageError('--discard needs --replace');
  if (from === undefined && owner !== undefined) throw usageError('--owner needs --from');
  if (from === undefined && newId) throw usageError('--new-id needs --from');
  if (from !== undefined && (replace || path !== undefined)) {
    throw usageError('--from makes a project: it goes with neither --replace nor --path');
  }
}

/** Makes a project of a backup alone. */
async function adopt(
  run: CommandRun,
  name: string,
  backupId: string,
  options: RestoreOptions,
  from: string,
): Promise<CommandResult> {
  const client = await run.client();
  const host = await findHost(client, from);
  const { projectId } = await findGroup(client, host.id, name);
  const started = await client.adoptBackup({
    hostId: host.id,
    projectId,
    backupId: backupId.toLowerCase(),
    name: options.as,
    owner: options.owner,
    host: options.to,
    newId: options.newId ?? false,
    start: options.start ?? false,
  });
  // Somebody else's project is not the caller's to look at.
  if (options.wait && started.project === undefined) {
    const ended = await follow(run, client, started.operation);
    return { json: ended, text: `project ${ended.projectId} is restored` };
  }
  return finishProjectOperation(run, client, started, { wait: options.wait, say: restored });
}

/** A project in a repository by its id, the beginning of its id, or its name there. */
async function findGroup(
  client: RookeryClient,
  hostId: string,
  text: string,
): Promise<ProjectBackupsView> {
  const groups = await listGroups(client, hostId, false);
  const byId = groups.filter(({ projectId }) => projectId.startsWith(text.toLowerCase()));
  const found = byId.length > 0 ? byId : groups.filter(({ name }) => name === text);
  const [first, ...others] = found;
  if (!first) throw CoreErrors.NOT_FOUND({ what: 'backup of a project', id: text });
  if (others.length === 0) return first;
  const ids = found.map(({ projectId }) => projectId).join(', ');
  throw CliErrors.PROJECT_AMBIGUOUS({ name: text, count: found.length, ids });
}

const listGroups = (client: RookeryClient, hostId: string, unknown: boolean) =>
  collect(client.each('listHostBackups', { hostId, unknown: unknown ? 'true' : 'false' }));

/** Either a project or a host is named. */
function oneOf(
  project: string | undefined,
  host: string | undefined,
): { project: string } | { host: string } {
  if (project !== undefined && host === undefined) return { project };
  if (host !== undefined && project === undefined) return { host };
  throw usageError('name a project, or a host with --host');
}

/** Tables show the beginning of an id, so that is what people type. */
async function fullBackupId(
  client: RookeryClient,
  projectId: string,
  text: string,
): Promise<string> {
  if (text === 'latest' || text.length >= 64) return text;
  const all = await collect(client.each('listBackups', { projectId }));
  const found = all.filter((one) => one.id.startsWith(text.toLowerCase()));
  return found.length === 1 && found[0] ? found[0].id : text;
}

const describe = (backup: BackupView): string =>
  `${size(backup.bytes)} in ${counted(backup.files, 'file')}, ${size(backup.bytesAdded)} new`;

function backupTable(backups: readonly BackupView[]): string {
  return table(
    ['ID', 'CREATED', 'SIZE', 'FILES', 'NEW', 'REPOSITORY', 'DRIVER'],
    backups.map((one) => [
      shortId(one.id),
      relativeTime(one.createdAt),
      size(one.bytes),
      String(one.files),
      size(one.bytesAdded),
      one.repository,
      one.driver,
    ]),
  );
}

function groupTable(groups: readonly ProjectBackupsView[]): string {
  return table(
    ['PROJECT', 'NAME', 'STATE', 'BACKUPS', 'LATEST', 'CREATED', 'SIZE'],
    groups.map((one) => [
      one.projectId,
      one.name ?? '-',
      one.state,
      String(one.backups),
      shortId(one.latestId),
      relativeTime(one.latestAt),
      size(one.latestBytes),
    ]),
  );
}

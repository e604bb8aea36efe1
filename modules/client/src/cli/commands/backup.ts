import type { BackupView } from '../../contract/views.js';
import type { RookeryClient } from '../../sdk/rookery-client.js';
import { usageError } from '../cli.errors.js';
import { finishProjectWork, follow, startedResult } from '../follow.js';
import { relativeTime, shortId, size } from '../output/format.js';
import { table } from '../output/table.js';
import type { CommandModule } from '../cli.js';
import { collect, findHost, findProject } from '../resolve.js';
import { examples } from './examples.js';

interface RestoreOptions {
  readonly to?: string;
  readonly path?: string;
  readonly replace?: boolean;
  readonly discard?: boolean;
  readonly as?: string;
  readonly start?: boolean;
  readonly wait: boolean;
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
    .description('backups of a project, newest first')
    .argument('<project>')
    .addHelpText('after', examples('rookery backup list hello'))
    .action(
      cli.action(async (run, [name = '']) => {
        const client = await run.client();
        const { id } = await findProject(client, name);
        const found = await collect(client.each('listBackups', { projectId: id }));
        return { json: found, text: backupTable(found) };
      }),
    );

  backup
    .command('reindex')
    .description('look into the repository and list what it holds')
    .argument('<project>')
    .addHelpText('after', examples('rookery backup reindex hello'))
    .action(
      cli.action(async (run, [name = '']) => {
        const client = await run.client();
        const { id } = await findProject(client, name);
        const found = await client.reindexBackups({ projectId: id });
        const note = found.asked ? '' : ' (no host with a repository answered)';
        return { json: found, text: `${found.backups} backups${note}` };
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
    .option('--start', 'start it afterwards')
    .option('--no-wait', 'do not wait for the end; print the operation')
    .addHelpText(
      'after',
      examples(
        'rookery backup restore hello --as hello-again --start',
        'rookery backup restore hello latest --replace --to host-2',
        'rookery backup restore hello 4f2a91c0 --path notes.txt',
      ),
    )
    .action(
      cli.action<RestoreOptions>(async (run, [name = '', backupId = 'latest'], options) => {
        if (options.replace && options.as !== undefined) {
          throw usageError('--replace and --as exclude each other');
        }
        if (options.discard && !options.replace) throw usageError('--discard needs --replace');
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
        return finishProjectWork(run, client, started, {
          wait: options.wait,
          say: (project) =>
            `${project.name} (${project.id}) is ${project.state} on ${project.host}`,
        });
      }),
    );
};

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
  `${size(backup.bytes)} in ${backup.files} files, ${size(backup.bytesAdded)} new`;

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

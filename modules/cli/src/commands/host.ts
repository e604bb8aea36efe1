import type { HostView } from '@rookery/api';
import { follow, startedResult } from '../follow.js';
import { counted, relativeTime, shortId, size } from '../output/format.js';
import { fields, table } from '../output/table.js';
import { atLeastOne } from '../parameters.js';
import type { CommandModule } from '../cli.js';
import { collect, findHost } from '../resolve.js';
import { examples } from './examples.js';

/** The fleet. */
export const hostCommands: CommandModule = (program, cli) => {
  const host = program.command('host').description('hosts');

  host
    .command('list')
    .alias('ls')
    .description('all hosts')
    .addHelpText('after', examples('rookery host list'))
    .action(
      cli.action(async (run) => {
        const found = await collect((await run.client()).each('listHosts'));
        return { json: found, text: hostTable(found) };
      }),
    );

  host
    .command('show')
    .description('one host')
    .argument('<host>', 'id, name, or beginning of the id')
    .addHelpText('after', examples('rookery host show host-1'))
    .action(
      cli.action(async (run, [name = '']) => {
        const found = await findHost(await run.client(), name);
        return { json: found, text: hostFields(found) };
      }),
    );

  host
    .command('join-token')
    .description('a one-time token with which a host joins')
    .option('--minutes <number>', 'how long it is good for', atLeastOne, 60)
    .addHelpText('after', examples('rookery host join-token --minutes 15'))
    .action(
      cli.action<{ minutes: number }>(async (run, _, { minutes }) => {
        const made = await (await run.client()).createJoinToken({ expiresInMinutes: minutes });
        return { json: made, text: made.token };
      }),
    );

  for (const [verb, schedulable, description] of [
    ['cordon', false, 'place no new projects on a host'],
    ['uncordon', true, 'place projects on a host again'],
  ] as const) {
    host
      .command(verb)
      .description(description)
      .argument('<host>')
      .addHelpText('after', examples(`rookery host ${verb} host-1`))
      .action(
        cli.action(async (run, [name = '']) => {
          const client = await run.client();
          const { id } = await findHost(client, name);
          const changed = await client.updateHost({ hostId: id, schedulable });
          return { json: changed, text: `${changed.name} is ${verb}ed` };
        }),
      );
  }

  host
    .command('drain')
    .description('cordon a host and move every project away')
    .argument('<host>')
    .option('--parallel <number>', 'moves at a time', atLeastOne, 2)
    .option('--no-wait', 'do not wait for the end; print the operation')
    .addHelpText('after', examples('rookery host drain host-1'))
    .action(
      cli.action<{ parallel: number; wait: boolean }>(async (run, [name = ''], options) => {
        const client = await run.client();
        const { id } = await findHost(client, name);
        const started = await client.drainHost({ hostId: id, parallel: options.parallel });
        if (!options.wait) return startedResult(started);
        await follow(run, client, started.operation);
        const drained = await client.getHost({ hostId: id });
        return {
          json: drained,
          text: `${drained.name} owns ${counted(drained.projects, 'project')}`,
        };
      }),
    );

  host
    .command('remove')
    .alias('rm')
    .description('forget a host that owns no project, or one that is gone for good')
    .argument('<host>')
    .option('--lost', 'it will not come back: end its work, give up what it alone has', false)
    .addHelpText('after', lostHelp + examples('rookery host remove host-2 --yes'))
    .action(
      cli.action<{ lost: boolean }>(async (run, [name = ''], { lost }) => {
        const client = await run.client();
        const found = await findHost(client, name);
        const given = lost ? ` and what it alone has of ${found.projects} projects` : '';
        await run.confirm(`Forget the host ${found.name} (${found.id})${given}?`);
        const left = await client.removeHost({ hostId: found.id, lost: lost ? 'true' : 'false' });
        const { projectsTakenBack, projectsLost } = left;
        const text = lost
          ? `; ${projectsTakenBack} projects are back on another host, ${projectsLost} are lost`
          : '';
        return {
          json: { id: found.id, name: found.name, removed: true, ...left },
          text: `${found.name} is removed${text}`,
        };
      }),
    );
};

const lostHelp = `
With --lost the host must be offline, and must stay so: nothing stops what may still run there.
Moves to it end and their projects go on where they were. A project that it owned is shown as
archived if it has a backup: "rookery project rehydrate" brings the newest one back.
`;

/** What keeps it from serving is said with its status. */
const statusOf = ({ status, trouble }: HostView): string =>
  trouble ? `${status} (${trouble.code})` : status;

const placements = (host: HostView): string => (host.schedulable ? 'yes' : 'cordoned');

function hostTable(hosts: readonly HostView[]): string {
  return table(
    ['ID', 'NAME', 'STATUS', 'PLACEMENTS', 'PROJECTS', 'DISK FREE', 'MEMORY FREE', 'SEEN'],
    hosts.map((one) => [
      shortId(one.id),
      one.name,
      statusOf(one),
      placements(one),
      String(one.projects),
      size(one.capacity.diskFreeBytes),
      size(one.capacity.memoryFreeBytes),
      relativeTime(one.lastSeenAt),
    ]),
  );
}

function backupsOf({ capabilities }: HostView): string {
  const { backupDrivers, backupRepository: repository } = capabilities;
  const reason = repository?.error ? `: ${repository.error.message}` : '';
  const where = repository && `${repository.name} (${repository.state}${reason})`;
  return [...backupDrivers, ...(where === undefined ? [] : [where])].join(', ') || '-';
}

function hostFields(host: HostView): string {
  const { capacity, capabilities } = host;
  return fields({
    Id: host.id,
    Name: host.name,
    Region: host.region,
    Status: statusOf(host),
    ...(host.trouble && {
      Trouble: `${host.trouble.message} (${relativeTime(host.trouble.at)})`,
    }),
    Placements: placements(host),
    Projects: `${host.projects}, ${capacity.projectsRunning} running`,
    Missing:
      host.missing > 0
        ? `${host.missing} of its projects (rookery project list --host ${host.name})`
        : undefined,
    Copies:
      host.copies > 0
        ? `${host.copies} that are not its own (rookery host copies ${host.name})`
        : undefined,
    Images:
      host.imagesDiffering.length > 0
        ? `not what other hosts have under these digests: ${host.imagesDiffering.join(', ')}`
        : undefined,
    Disk: `${size(capacity.diskFreeBytes)} free of ${size(capacity.diskBytes)}${reserve(host)}`,
    Memory: `${size(capacity.memoryFreeBytes)} free of ${size(capacity.memoryBytes)}`,
    'Memory slice': memorySlice(capabilities),
    Protected: protection(capabilities),
    Cpus: String(capacity.cpus),
    Storage: `${capabilities.storageDriver}, ${capabilities.quota} quotas`,
    Isolation: isolation(capabilities),
    Egress: capabilities.egress ?? 'not limited (an earlier release)',
    Backups: backupsOf(host),
    Url: host.publicUrl,
    Version: host.version,
    Owed: host.owed > 0 ? `${host.owed} ended moves, told when it answers` : undefined,
    Seen: relativeTime(host.lastSeenAt),
    Joined: relativeTime(host.createdAt),
  });
}

function reserve({ capabilities }: HostView): string {
  const { diskReserveBytes: bytes } = capabilities;
  if (bytes === undefined) return '';
  return bytes > 0 ? `, and ${size(bytes)} that projects cannot use` : ', without a reserve';
}

function memorySlice({ memorySlice: slice }: HostView['capabilities']): string {
  if (slice?.bytes !== undefined) {
    return `${size(slice.bytes)} for all projects together (${slice.kind.replace('-', ' ')})`;
  }
  return `none: ${slice?.reason ?? 'the host runs an earlier release'}`;
}

function protection({ memoryProtection: known }: HostView['capabilities']): string {
  if (known?.kind === 'oom-score')
    return 'when memory runs out, projects are ended before the host';
  return `not from a machine without memory: ${known?.reason ?? 'the host runs an earlier release'}`;
}

function isolation({ isolation: known }: HostView['capabilities']): string {
  if (known?.kind === 'idmapped') return 'each project has user ids of its own';
  const reason = known?.reason ?? 'the host runs an earlier release';
  return `all projects share their user ids (${reason})`;
}

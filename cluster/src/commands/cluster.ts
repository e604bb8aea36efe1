import { Option } from 'commander';
import {
  usageError,
  defaultDataDir,
  ContextStore,
  relativeTime,
  fields,
  table,
  atLeastOne,
  bytes,
  port,
  examples,
  projectActivity,
  type CommandModule,
  type CommandResult,
  type CommandRun,
} from '@rookery/cli';
import { clusterPaths, readCluster, realDataDir, requireCluster } from '../cluster-file.js';
import { deleteData, isAbsent, openCluster, stopCluster } from '../cluster-lifecycle.js';
import { ClusterCommands, findParts, type ClusterDependencies } from '../cluster-parts.js';
import { hostsMax, type ClusterLayoutOptions } from '../cluster-plan.js';
import { clusterStatus, type ClusterStatus } from '../cluster-status.js';
import { ClusterSupervisor } from '../cluster-supervisor.js';
import type { ClusterSummary } from '../cluster-summary.js';
import type { Leftovers } from '../machine-sweep.js';
import { clusterEnvironment } from '../config/environment.js';
import {
  detachedCommand,
  reportFailure,
  reportReady,
  reportStep,
  superviseDetached,
} from '../detached-run.js';
import { logIn, logOut, type LocalLogin } from '../local-login.js';
import { requireRoot } from '../root.js';

interface UpOptions {
  readonly hosts?: number;
  readonly port?: number;
  readonly listen?: string;
  readonly publicUrl?: string;
  readonly appsUrl?: string;
  readonly pathOrigin?: 'own' | 'shared';
  readonly trustedProxies?: string;
  readonly volume?: number;
  readonly detach?: boolean;
}

/** A whole cluster on this machine. */
export const clusterCommands: CommandModule = (program, cli) => {
  program
    .command('up')
    .description('start a hub and hosts on this machine; Ctrl-C stops them')
    .option('--hosts <number>', 'how many hosts (default: 2)', atLeastOne)
    .option('--port <port>', 'the hub’s; hosts take the tens above it (default: 7700)', port)
    .option('--listen <address>', 'address to listen on (default: 127.0.0.1)')
    .option('--public-url <url>', 'how browsers reach the hub')
    .option('--apps-url <url>', 'where browsers see projects, as https://*.apps.example.com')
    .addOption(
      new Option('--path-origin <which>', 'shared: projects on the hub’s own origin, too').choices([
        'own',
        'shared',
      ]),
    )
    .option('--trusted-proxies <list>', 'addresses of TLS terminators before the hub')
    .option('--volume <size>', 'size of each host’s volume, a sparse file', bytes)
    .option('-d, --detach', 'go on in the background once everything is ready')
    .addHelpText(
      'after',
      examples('rookery up', 'rookery up --detach --hosts 3', 'rookery up --data /srv/rookery'),
    )
    .action(
      cli.action<UpOptions>(async (run, _, options) => {
        if ((options.hosts ?? 1) > hostsMax) throw usageError(`--hosts is at most ${hostsMax}`);
        requireRoot();
        await partsOf(run);
        const dataDir = await dataDirToStart(run);
        const { paths } = await openCluster(dataDir, wishOf(options));
        const step = (text: string): void => run.progress.step(text);
        if (!options.detach) return superviseHere(run, paths.dataDir);
        const summary = await superviseDetached(paths, step, run.signal);
        return upResult(summary, await logIn(run.environment, paths, run.options.context), true);
      }),
    );

  program
    .command(detachedCommand, { hidden: true })
    .description('supervise a cluster in the background')
    .action(
      cli.action(async (run) => {
        const supervisor = await supervisorFor(run, await dataDirOf(run), reportStep);
        const ended = untilTold(run, supervisor);
        try {
          reportReady(await supervisor.start());
        } catch (error) {
          reportFailure(error);
          throw error;
        }
        await ended;
        return { json: null, silent: true };
      }),
    );

  program
    .command('down')
    .description('stop the cluster on this machine')
    .option('--destroy', 'also remove its data, and all it has put on the machine')
    .addHelpText('after', examples('rookery down', 'rookery down --destroy --yes'))
    .action(
      cli.action<{ destroy?: boolean }>(async (run, _, { destroy = false }) => {
        requireRoot();
        const paths = clusterPaths(await realDataDir(await dataDirOf(run)));
        const { dataDir } = paths;
        const absent = await isAbsent(dataDir);
        if (!absent && destroy) {
          const { publicUrl } = await requireCluster(paths);
          await run.confirm(
            `Delete everything in ${dataDir}: all projects and their backups?`,
            `the cluster in ${dataDir} (${publicUrl})`,
          );
        }
        const known = !absent && (await readCluster(paths)) !== undefined;
        const step = (text: string): void => run.progress.step(text);
        // A Ctrl-C in the middle must not leave half a cluster; what is asked for is an end.
        const { stopped, leftovers } = known
          ? await stopCluster(paths, step)
          : { stopped: false, leftovers: { loopDevices: [], holders: [] } };
        if (known && destroy) {
          step(`deleting ${dataDir}`);
          await deleteData(paths);
          await logOut(run.environment, dataDir);
        }
        const destroyed = destroy && known;
        return {
          json: { dataDir, stopped, destroyed, leftovers: leftoversView(leftovers) },
          text: downText(dataDir, stopped, destroyed),
        };
      }),
    );

  program
    .command('status')
    .description('the cluster on this machine: processes, hosts, projects, ports')
    .addHelpText('after', examples('rookery status', 'rookery status --json'))
    .action(
      cli.action(async (run) => {
        const status = await clusterStatus(clusterPaths(await realDataDir(await dataDirOf(run))));
        return { json: status, text: statusText(status) };
      }),
    );
};

/** @throws CONTEXT_UNKNOWN, USAGE when --context names a hub elsewhere */
async function dataDirOf(run: CommandRun): Promise<string> {
  const { data, context: name } = run.options;
  if (data !== undefined) return data;
  if (name === undefined) return defaultDataDir;
  const context = await new ContextStore(run.environment.configDir).get(name);
  if (context.data === undefined) {
    throw usageError(`the context ${name} is no cluster of this machine`);
  }
  return context.data;
}

/**
 * A context that is not there yet is the name that the cluster's login is to have.
 * @throws CONTEXT_TAKEN, USAGE, before anything is started
 */
async function dataDirToStart(run: CommandRun): Promise<string> {
  const { data, context: name } = run.options;
  if (name === undefined) return data ?? defaultDataDir;
  const contexts = new ContextStore(run.environment.configDir);
  const isKnown = (await contexts.list()).some((one) => one.name === name);
  if (isKnown && data === undefined) return dataDirOf(run);
  const dataDir = data ?? defaultDataDir;
  await contexts.requireFree(name, { url: '', data: await realDataDir(dataDir) });
  return dataDir;
}

const wishOf = (options: UpOptions): ClusterLayoutOptions => ({
  ...(options.hosts !== undefined && { hosts: options.hosts }),
  ...(options.port !== undefined && { port: options.port }),
  ...(options.listen !== undefined && { listen: options.listen }),
  ...(options.publicUrl !== undefined && { publicUrl: options.publicUrl.replace(/\/+$/, '') }),
  ...(options.volume !== undefined && { volumeBytes: options.volume }),
  hub: {
    ...(options.appsUrl !== undefined && { appsUrl: options.appsUrl }),
    ...(options.pathOrigin !== undefined && { pathOrigin: options.pathOrigin }),
    ...(options.trustedProxies !== undefined && { trustedProxies: options.trustedProxies }),
  },
});

/** @throws PART_MISSING */
function partsOf(run: CommandRun): Promise<ClusterDependencies> {
  const { cacheDir, parts } = clusterEnvironment(run.io.env);
  return findParts(cacheDir, parts);
}

async function supervisorFor(
  run: CommandRun,
  dataDir: string,
  onStep: (text: string) => void,
): Promise<ClusterSupervisor> {
  const paths = clusterPaths(await realDataDir(dataDir));
  const commands = new ClusterCommands(await partsOf(run), paths, run.io.env);
  return new ClusterSupervisor({ paths, commands, onStep, cluster: await requireCluster(paths) });
}

/** Foreground: the summary once everything is ready, then until Ctrl-C. */
async function superviseHere(
  run: CommandRun,
  dataDir: string,
): Promise<{ json: null; silent: true }> {
  const paths = clusterPaths(dataDir);
  const supervisor = await supervisorFor(run, dataDir, (text) => run.progress.step(text));
  const ended = untilTold(run, supervisor);
  const summary = await supervisor.start();
  const login = await logIn(run.environment, paths, run.options.context);
  await run.print(upResult(summary, login, false));
  await ended;
  run.progress.step('stopped');
  return { json: null, silent: true };
}

/** Resolves when a signal has come and everything has stopped. */
function untilTold(run: CommandRun, supervisor: ClusterSupervisor): Promise<void> {
  return new Promise((resolve, reject) => {
    for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
      run.io.onSignal(name, () => void supervisor.stop().then(resolve, reject));
    }
  });
}

const upResult = (
  summary: ClusterSummary,
  login: LocalLogin | undefined,
  detached: boolean,
): CommandResult => ({
  json: { ...summary, context: login?.context ?? null, currentContext: login?.current ?? null },
  text: [summaryText(summary, detached), ...contextNote(login)].join('\n'),
});

/** Another context stays in use, which must not be a surprise. */
const contextNote = (login: LocalLogin | undefined): string[] =>
  login === undefined || login.context === login.current
    ? []
    : [
        '',
        `Commands without options still go to the context ${login.current}. To this cluster:`,
        `  ./rookery context use ${login.context}     or --context ${login.context}`,
      ];

function summaryText(summary: ClusterSummary, detached: boolean): string {
  const { project, hosts } = summary;
  const data = summary.dataDir === defaultDataDir ? '' : ` --data ${summary.dataDir}`;
  const name = project?.name ?? 'hello';
  const next = [
    `rookery project exec -t ${name}${data} -- bash`,
    `rookery snapshot create ${name}${data}`,
    `rookery project move ${name}${data}`,
    `rookery status${data}`,
    detached ? `rookery down${data}` : undefined,
  ];
  return [
    '',
    `Rookery runs at ${summary.url} with ${hosts.map((host) => host.name).join(' and ')}.`,
    '',
    `Open (signs you in, once):  ${summary.loginUrl}`,
    ...(project ? [`The project ${project.name}:          ${project.url}8080/`] : []),
    '',
    'Then try:',
    ...next.filter((line) => line !== undefined).map((line) => `  ./${line}`),
    ...(detached ? [] : ['', 'Ctrl-C stops everything.']),
  ].join('\n');
}

const leftoversView = ({ loopDevices, holders }: Leftovers): object => ({
  loopDevices,
  holders: holders.map(({ identity: { pid }, command }) => ({ pid, command })),
});

function downText(dataDir: string, stopped: boolean, destroyed: boolean): string {
  if (destroyed) return `the cluster in ${dataDir} is gone`;
  return stopped ? `the cluster in ${dataDir} has stopped` : `no cluster runs in ${dataDir}`;
}

function statusText(status: ClusterStatus): string {
  const state = status.ready ? 'ready' : status.running ? 'starting or stopping' : 'stopped';
  const parts = [
    fields({
      Cluster: status.dataDir,
      State: state,
      Started: status.startedAt ? relativeTime(status.startedAt) : undefined,
      Url: status.url,
      Hub: status.hub ? `port ${status.hub.port}, version ${status.hub.version}` : 'no answer',
    }),
    table(
      ['HOST', 'STATUS', 'PROJECTS', 'WEB', 'SSH', 'AGENT', 'VERSION'],
      status.hosts.map((one) => [
        one.name,
        one.host?.status ?? 'unknown',
        one.host ? String(one.host.projects) : '-',
        String(one.port),
        String(one.sshPort),
        String(one.agentPort),
        one.host?.version ?? '-',
      ]),
    ),
  ];
  if (status.processes.length > 0) {
    parts.push(
      table(
        ['PROCESS', 'PID', 'RESTARTS', 'LOG'],
        status.processes.map((one) => [
          one.name,
          one.running ? String(one.pid) : 'ended',
          String(one.restarts),
          one.log,
        ]),
      ),
    );
  }
  if (status.projects.length > 0) {
    parts.push(
      table(
        ['PROJECT', 'STATE', 'HOST', 'URL'],
        status.projects.map((one) => [one.name, projectActivity(one), one.host ?? '-', one.url]),
      ),
    );
  }
  return parts.join('\n\n');
}

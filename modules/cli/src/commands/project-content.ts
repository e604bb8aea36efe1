import type { ProjectView } from '@rookery/api';
import type { LogsCall } from '@rookery/client';
import { CliErrors, usageError } from '../cli.errors.js';
import { fields } from '../output/table.js';
import { count, portText, variable } from '../parameters.js';
import type { CommandModule } from '../cli.js';
import { findProject } from '../resolve.js';
import type { CommandResult, CommandRun } from '../run.js';
import { captureExec, passThroughExec, type ExecPlan } from '../session/exec-session.js';
import { collectText, pipeOut } from '../session/streams.js';
import { existingGroup } from './groups.js';
import { examples } from './examples.js';

interface ExecOptions {
  readonly tty?: boolean;
  readonly env?: Record<string, string>;
  readonly cwd?: string;
}

/** Reaching what is inside a project: address, output, commands. */
export const projectContentCommands: CommandModule = (program, cli) => {
  const project = existingGroup(program, 'project');

  project
    .command('where')
    .description('the host that a project lives on, and why')
    .argument('<project>')
    .addHelpText('after', examples('rookery project where hello'))
    .action(
      cli.action(async (run, [name = '']) => {
        const client = await run.client();
        const found = await findProject(client, name);
        const { items } = await client.listPlacements({ projectId: found.id, limit: 1 });
        const { hostId, host, url, placementGeneration } = found;
        const chosen = items[0]?.candidates.find((one) => one.hostId === hostId);
        return {
          json: {
            projectId: found.id,
            hostId,
            host,
            url,
            placementGeneration,
            placement: items[0] ?? null,
          },
          text: fields({
            Host: host ?? '-',
            'Host id': hostId ?? '-',
            Generation: String(placementGeneration),
            Why: chosen?.reasons.join('; '),
          }),
        };
      }),
    );

  project
    .command('url')
    .description('the address of a project, or of a service in it, for programs with a token')
    .argument('<project>')
    .argument('[port]', 'port that the service listens on', portText)
    .option('-b, --browser', 'the address at which browsers see it')
    .addHelpText(
      'after',
      examples(
        'curl -H "$AUTH" $(rookery project url hello 8080)',
        'rookery project url hello 8080 --browser',
      ),
    )
    .action(
      cli.action<{ browser?: boolean }>(async (run, [name = '', at], { browser }) => {
        const found = await findProject(await run.client(), name);
        const url = serviceUrl(found, at);
        const appUrl = browserUrl(found, at);
        if (browser && appUrl === null) throw CliErrors.BROWSER_ADDRESS_MISSING();
        const text = browser === true && appUrl !== null ? appUrl : url;
        return { json: { projectId: found.id, url, appUrl }, text };
      }),
    );

  project
    .command('open')
    .description('a one-time link that signs a browser in and shows a service')
    .argument('<project>')
    .argument('[port]', 'port that the service listens on', portText, '8080')
    .addHelpText('after', examples('rookery project open hello 8080'))
    .action(
      cli.action(async (run, [name = '', at]) => {
        const client = await run.client();
        const found = await findProject(client, name);
        const { pathname } = new URL(serviceUrl(found, at));
        const ticket = await client.createLoginTicket({ next: pathname });
        return { json: { ...ticket, appUrl: browserUrl(found, at) }, text: ticket.url };
      }),
    );

  project
    .command('logs')
    .description('what a project’s container wrote')
    .argument('<project>')
    .option('-f, --follow', 'go on until Ctrl-C')
    .option('-n, --tail <lines>', 'only the last lines', count)
    .addHelpText('after', examples('rookery project logs hello --tail 50 --follow'))
    .action(
      cli.action<{ follow?: boolean; tail?: number }>(async (run, [name = ''], options) => {
        if (options.follow && run.json) throw usageError('--follow and --json exclude each other');
        const client = await run.client();
        const { id } = await findProject(client, name);
        const logs = await client.logs(
          id,
          { follow: options.follow ?? false, tailLines: options.tail },
          { signal: run.signal },
        );
        return showLogs(run, logs);
      }),
    );

  project
    .command('exec')
    .description('run a command in a running project')
    .argument('<project>')
    .argument('<command...>', 'put -- before it')
    .option('-t, --tty', 'with a terminal')
    .option('-e, --env <name=value>', 'environment variable; repeatable', variable)
    .option('--cwd <dir>', 'folder to run in, relative to the home directory')
    .addHelpText(
      'after',
      examples(
        'rookery project exec hello -- ls -l',
        'rookery project exec -t hello -- bash',
        'tar c src | rookery project exec hello -- tar x',
      ),
    )
    .action(
      cli.action<ExecOptions>(async (run, [name = '', ...command], options) => {
        const client = await run.client();
        const { id } = await findProject(client, name);
        const plan: ExecPlan = {
          projectId: id,
          command: command as string[],
          env: options.env ?? {},
          ...(options.cwd !== undefined && { cwd: options.cwd }),
        };
        if (run.json && options.tty) throw usageError('--tty and --json exclude each other');
        if (run.json) return captureExec(client, plan, run.io, run.signal);
        return {
          json: null,
          silent: true,
          exit: await passThroughExec(client, plan, run.io, options.tty ?? false),
        };
      }),
    );
};

/** `…/port/` + `8080/`. */
const serviceUrl = (project: ProjectView, at: string | undefined): string =>
  at === undefined ? project.url : `${project.url}${at}/`;

/** Null where the hub has no names for projects; with `{port}` when none is said. */
const browserUrl = ({ appUrl }: ProjectView, at: string | undefined): string | null =>
  at === undefined ? appUrl : (appUrl?.replace('{port}', at) ?? null);

async function showLogs(run: CommandRun, logs: LogsCall): Promise<CommandResult> {
  logs.stdin.end();
  if (run.json) {
    const [stdout, stderr] = await Promise.all([
      collectText(logs.stdout),
      collectText(logs.stderr),
    ]);
    await logs.result;
    return { json: { stdout, stderr } };
  }
  await Promise.all([
    pipeOut(logs.stdout, run.io.stdout),
    pipeOut(logs.stderr, run.io.stderr),
    logs.result,
  ]);
  return { json: null, silent: true };
}

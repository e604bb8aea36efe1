import { z } from 'zod';
import type { OperationView, ProjectView, Started } from '@rookery/api';
import type { RookeryClient } from '@rookery/client';
import { CliErrors } from './cli.errors.js';
import type { CommandResult, CommandRun } from './run.js';

/** Of a move, a restore and the like that ended with a project that cannot start. */
const StartFailure = z.object({ startError: z.object({ code: z.string(), message: z.string() }) });

/**
 * Follows long work to its end with progress on stderr.
 * @throws the operation's coded error
 */
export async function follow(
  run: CommandRun,
  client: RookeryClient,
  operation: OperationView,
): Promise<OperationView> {
  run.onInterruptSay(CliErrors.WORK_GOES_ON({ operationId: operation.id }));
  const ended = await client.waitForOperation(operation.id, {
    signal: run.signal,
    onProgress: (view) => run.progress.operation(view),
  });
  run.progress.end();
  run.onInterruptSay(undefined);
  return ended;
}

/** What a command leaves that was told not to wait: the API's answer as it is. */
export const startedResult = (started: Started): CommandResult => ({
  json: started,
  text: `started: ${started.operation.kind} (operation ${started.operation.id})`,
});

/**
 * Waits for work on a project and leaves the project's new view; with `--no-wait`, the operation.
 * @param say what a person reads when it is done
 */
export async function finishProjectOperation(
  run: CommandRun,
  client: RookeryClient,
  started: Started,
  options: {
    readonly wait: boolean;
    readonly say: (project: ProjectView, ended: OperationView) => string;
  },
): Promise<CommandResult> {
  if (!options.wait) return startedResult(started);
  const ended = await follow(run, client, started.operation);
  const projectId = started.project?.id ?? ended.projectId;
  if (projectId === null) return { json: ended };
  const project = await client.getProject({ projectId });
  const said = options.say(project, ended);
  const notStarted = startErrorOf(ended);
  if (notStarted === undefined) return { json: project, text: said };
  await run.warn(`${project.name} did not start again: ${notStarted}`);
  return { json: project, text: `${said}, and does not run` };
}

/** Why a project does not run after work that has succeeded. */
function startErrorOf({ result }: OperationView): string | undefined {
  const found = StartFailure.safeParse(result);
  return found.success
    ? `${found.data.startError.message} (${found.data.startError.code})`
    : undefined;
}

import { BackupErrors } from '@rookery/backup';
import { CodedError, counted } from '@rookery/core';
import type { Fence, ProjectListener } from '@rookery/core/contract';
import { never, saga, step, type PlacementAuthority, type StepContext } from '@rookery/move';
import { specOf } from '../../projects/project.queries.js';
import {
  isOffline,
  jobOptions,
  refuseLockedOf,
  showFailure,
  startAgain,
  stopProject,
  type HubPorts,
  type ProjectSagaTypes,
  type StartedAgain,
} from './common.js';
import { restoring, type BackupChoice } from './restoring.js';

interface ReplacePorts extends HubPorts {
  readonly authority: PlacementAuthority;
}

export interface Types extends ProjectSagaTypes {
  readonly ports: ReplacePorts;
  readonly input: BackupChoice & {
    readonly projectId: string;
    /** Row in `project_moves` that the commit asks. */
    readonly moveId: string;
    /** Null for an archived project, which has no owner. */
    readonly fromHostId: string | null;
    readonly toHostId: string;
    readonly fromGeneration: number;
    readonly wasRunning: boolean;
    readonly start: boolean;
    /** Keep nothing of what is replaced but locked snapshots. */
    readonly discard?: boolean;
  };
  readonly state: {
    readonly newGeneration?: number;
    /** What listened at the old owner. */
    readonly listeners?: readonly ProjectListener[];
  } & StartedAgain;
  readonly result: { readonly projectId: string; readonly hostId: string } & StartedAgain;
}
type Context = StepContext<Types>;

const options = {
  start: () => ({}),
  result: ({ startError }: Types['state'], input: Types['input']) => ({
    projectId: input.projectId,
    hostId: input.toHostId,
    ...(startError && { startError }),
  }),
  ended: async (context: Context, ending: 'succeeded' | 'failed' | 'canceled' | 'stuck') => {
    const state = { succeeded: 'done', failed: 'failed', canceled: 'canceled', stuck: 'stuck' };
    const { moveId } = context.input;
    const { authority } = context.ports;
    await authority.setState(moveId, context.attempt, state[ending] as 'done');
    await showFailure(context, ending);
  },
};
const ownerChanged = never('the owner has changed: the restored content is the project now');

/**
 * Puts a backup's content in a project's place, on another host than the one that owns it: the way
 * back when a host lost its data, and the way out of the archive.
 *
 * The new host restores at the next generation while the old one still owns the project; only when
 * the content is complete does one transaction change the owner. The old owner may be gone or have
 * lost everything, so nothing depends on it: a copy that turns up later is of an older generation.
 */
export const replaceElsewhere = saga<Types>(
  'backup.replace',
  [
    step('stopping', { do: stopOldOwner, undo: restartOldOwner }),
    step('restoring', { do: restoreAtNextGeneration, undo: dropRestored }),
    step('committing', { do: changeOwner, pointOfNoReturn: preventCommit, undo: ownerChanged }),
    step('starting', { do: startHere, undo: ownerChanged }),
    // Last and best effort: a host that is away hears at its next heartbeat what it owns.
    step('cleaning', { do: retireOldCopy, undo: ownerChanged }),
  ],
  options,
);

/**
 * The same on the host that owns the project. There the content is swapped by the restore itself,
 * which also raises the host's generation: from that moment there is only forward. Whether it was
 * reached, when the reply is lost, the host alone knows; it finishes or gives up the restore when it
 * is asked, so that a swap which it had yet to repeat does not come behind an undo.
 */
export const replaceHere = saga<Types>(
  'backup.replace-here',
  [
    step('stopping', { do: stopOldOwner, undo: restartOldOwner }),
    step('restoring', {
      do: restoreAtNextGeneration,
      pointOfNoReturn: askWhetherSwapped,
      undo: ownerChanged,
    }),
    step('committing', { do: changeOwner, undo: ownerChanged }),
    step('starting', { do: startHere, undo: ownerChanged }),
  ],
  options,
);

const nextGeneration = (context: Context): number => context.input.fromGeneration + 1;

const fenceAt = (context: Context, generation: number): Fence => ({
  projectId: context.input.projectId,
  generation,
  operationId: context.operationId,
  attempt: context.attempt,
  claim: context.claim,
});

/**
 * The old owner's copy goes with its snapshots once another host has the content. One that does not
 * answer, or has nothing left, has nothing to keep.
 * @throws SNAPSHOTS_LOCKED, RESTORE_NEEDS_DISCARD
 */
async function refuseLosing({ input, ports, signal }: Context): Promise<void> {
  const { projectId, fromHostId, toHostId, discard } = input;
  if (fromHostId === null || fromHostId === toHostId) return;
  const host = ports.hosts.snapshots(fromHostId, { patienceMs: 0 });
  const found = await host.list({ projectId }, { signal }).catch((error: unknown) => {
    if (isGone(error)) return undefined;
    throw error;
  });
  if (!found) return;
  refuseLockedOf(found.snapshots);
  if (discard === true) return;
  const reason = `its host still has it, with ${counted(found.snapshots.length, 'snapshot')}, and it goes to another`;
  throw BackupErrors.RESTORE_NEEDS_DISCARD({ projectId, reason });
}

/** What the old owner still runs would be lost at the commit; if it is gone, so is that. */
async function stopOldOwner(context: Context): Promise<Partial<Types['state']>> {
  const { fromHostId, wasRunning, moveId } = context.input;
  await context.ports.authority.setState(moveId, context.attempt, 'preparing');
  await refuseLosing(context);
  if (fromHostId === null || !wasRunning) return {};
  try {
    return { listeners: await stopProject(context, { startsAgain: true }) };
  } catch (error) {
    if (!isGone(error)) throw error;
    return {};
  }
}

async function restartOldOwner(context: Context): Promise<void> {
  if (context.input.fromHostId === null || !context.input.wasRunning) return;
  try {
    await startAgain(context);
  } catch (error) {
    // It was stopped because it is away, or has nothing left to start.
    if (!isGone(error)) throw error;
  }
}

async function restoreAtNextGeneration(context: Context): Promise<void> {
  const { projectId, toHostId, fromProjectId, moveId, discard } = context.input;
  await context.ports.authority.setState(moveId, context.attempt, 'copying');
  const project = await context.ports.records.load(projectId);
  const fence = fenceAt(context, nextGeneration(context));
  const host = context.ports.hosts.backups(toHostId);
  await restoring(context, toHostId, context.input, (backupId) =>
    host.restore(
      {
        fence,
        fromProjectId,
        backupId,
        spec: specOf(project),
        replace: true,
        discard: discard === true,
      },
      jobOptions(context),
    ),
  );
}

async function dropRestored(context: Context): Promise<void> {
  const fence = fenceAt(context, nextGeneration(context));
  const host = context.ports.hosts.projects(context.input.toHostId);
  await host.delete({ fence }, { signal: context.signal });
}

async function changeOwner(context: Context): Promise<{ newGeneration: number }> {
  const { moveId, projectId, toHostId, fromGeneration } = context.input;
  const { authority, records } = context.ports;
  await authority.setState(moveId, context.attempt, 'committing');
  const newGeneration = await authority.commit({
    moveId,
    projectId,
    toHostId,
    attempt: context.attempt,
    expectedGeneration: fromGeneration,
  });
  const at = { id: projectId, placementGeneration: newGeneration };
  await records.change(context, at, {
    state: 'stopped',
    error: null,
    provisioned: true,
    // What it was rescued from is not there any more.
    rescue: false,
  });
  return { newGeneration };
}

async function preventCommit(context: Context): Promise<'undo' | 'forward'> {
  const answer = await context.ports.authority.beginUndo(context.input.moveId, context.attempt);
  return answer === 'committed' ? 'forward' : 'undo';
}

/** What its host has not swapped by then it does not swap later. */
async function askWhetherSwapped(context: Context): Promise<'undo' | 'forward'> {
  const fence = fenceAt(context, nextGeneration(context));
  const host = context.ports.hosts.backups(context.input.toHostId);
  const { placed } = await host.settle({ fence }, { signal: context.signal });
  return placed ? 'forward' : preventCommit(context);
}

async function startHere(context: Context): Promise<StartedAgain> {
  const { wasRunning, start, moveId } = context.input;
  await context.ports.authority.setState(moveId, context.attempt, 'activating');
  return wasRunning || start ? startAgain(context, context.state.listeners) : {};
}

async function retireOldCopy(context: Context): Promise<void> {
  const { fromHostId, moveId } = context.input;
  await context.ports.authority.setState(moveId, context.attempt, 'cleaning');
  if (fromHostId === null) return;
  const fence = fenceAt(context, nextGeneration(context));
  try {
    const host = context.ports.hosts.projects(fromHostId, { patienceMs: 0 });
    await host.delete({ fence }, { signal: context.signal });
  } catch (error) {
    if (!isGone(error)) throw error;
  }
}

/** The host is away, or has no such project (any more). */
const isGone = (error: unknown): boolean =>
  isOffline(error) || (error instanceof CodedError && error.status === 404);

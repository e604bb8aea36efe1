import { CodedError } from '@rookery/core';
import { never, nothing, saga, step, type StepContext } from '@rookery/move';
import { HubErrors } from '../../hub.errors.js';
import { backUp } from './backup.saga.js';
import {
  fenceFor,
  jobOptions,
  placed,
  refuseLockedOf,
  showFailure,
  startAgain,
  stopProject,
  type ProjectSagaTypes,
} from './common.js';

export interface Types extends ProjectSagaTypes {
  readonly input: {
    readonly projectId: string;
    readonly wasRunning: boolean;
    readonly hostId: string;
    readonly fromGeneration: number;
  };
  readonly state: { readonly backupId?: string; readonly verified?: boolean };
  readonly result: { readonly projectId: string; readonly backupId: string };
}
type Context = StepContext<Types>;

const archived = never('the project is archived: its backup is the only copy');

/**
 * Backs a project up, has the host read every byte of it back, and frees the disk. The volume is deleted
 * only after the hub's books say `archived`, so a project is never shown on a host that has lost it.
 */
export const archiveProject = saga<Types>(
  'project.archive',
  [
    step('stopping', {
      do: async (context) => {
        await refuseLocked(context);
        if (context.input.wasRunning) await stopProject(context);
      },
      undo: async (context) => {
        if (context.input.wasRunning) await startAgain(context);
      },
    }),
    // A message that is stored after the backup was made would be acknowledged and lost.
    step('fencing', { do: (context) => fenceWriters(context, 'shut-out'), undo: letWritersIn }),
    step('backing-up', {
      do: async (context) => {
        const { backupId, verified } = await backUp(context, ['archive'], { verify: true });
        return { backupId, verified: verified === true };
      },
      undo: nothing('one backup more does no harm'),
    }),
    step('verifying', { do: verifyListed, undo: nothing('reads only') }),
    step('archiving', { do: giveUpOwner, pointOfNoReturn: askWhetherArchived, undo: archived }),
    step('freeing', { do: freeDisk, undo: archived }),
  ],
  {
    start: () => ({}),
    result: (state, input) => ({ projectId: input.projectId, backupId: state.backupId ?? '' }),
    ended: showFailure,
  },
);

/** The project stands still already; its message store and what works beside it do not. */
async function fenceWriters(context: Context, writers: 'shut-out' | 'let-in'): Promise<void> {
  const project = await placed(context);
  await context.ports.hosts
    .projects(project.hostId)
    .stop({ fence: fenceFor(context, project), writers }, jobOptions(context));
}

async function letWritersIn(context: Context): Promise<void> {
  try {
    await fenceWriters(context, 'let-in');
  } catch (error) {
    // What is not there is not fenced.
    if (!CodedError.is(error, 'PROJECT_NOT_HERE')) throw error;
  }
}

async function verifyListed(context: Context): Promise<void> {
  await refuseLocked(context);
  const project = await placed(context);
  const { backups } = await context.ports.hosts
    .backups(project.hostId)
    .list({ projectId: project.id }, { signal: context.signal });
  const { backupId, verified } = context.state;
  // A host of an older release takes no notice of what it does not know.
  if (verified !== true || !backups.some((each) => each.backupId === backupId)) {
    throw HubErrors.BACKUP_UNVERIFIED();
  }
}

/** A backup holds no snapshots: those that nobody locked go with the disk. @throws SNAPSHOTS_LOCKED */
async function refuseLocked(context: Context): Promise<void> {
  const project = await placed(context);
  const { snapshots } = await context.ports.hosts
    .snapshots(project.hostId)
    .list({ projectId: project.id }, { signal: context.signal });
  refuseLockedOf(snapshots);
}

async function giveUpOwner(context: Context): Promise<void> {
  const { projectId, fromGeneration } = context.input;
  const { records } = context.ports;
  if ((await records.load(projectId)).state === 'archived') return;
  await records.change(
    context,
    { id: projectId, placementGeneration: fromGeneration },
    {
      state: 'archived',
      desiredState: 'archived',
      hostId: null,
      host: null,
      error: null,
      placementGeneration: fromGeneration + 1,
      provisioned: false,
    },
    { unlessUndoing: true },
  );
}

/**
 * A superseded worker cannot archive any more: the write asks for the newest attempt. Nor can a
 * write of this one whose answer was lost: it is waited for here, or finds that we turned back.
 */
async function askWhetherArchived(context: Context): Promise<'undo' | 'forward'> {
  const project = await context.ports.records.settled(context, context.input.projectId);
  return project.state === 'archived' ? 'forward' : 'undo';
}

async function freeDisk(context: Context): Promise<void> {
  const { projectId, hostId, fromGeneration } = context.input;
  const { operationId, attempt } = context;
  const fence = { projectId, generation: fromGeneration + 1, operationId, attempt };
  await context.ports.hosts.projects(hostId).delete({ fence }, jobOptions(context));
}

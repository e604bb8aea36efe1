import { CodedError } from '@rookery/core';
import type { CodedErrorView, HostId, MoveId, ProjectId, MoveState } from '@rookery/core/contract';
import type { MoveManifest } from '@rookery/fleet/contract';
import { isAway, payMoveDebt, type MoveDebt, type MoveDebts } from './move-debts.js';
import { MoveErrors } from './move.errors.js';
import type { MoveDestinationClient, MoveHosts, MoveSourceClient } from './move-hosts.js';
import { fetchInstead, vouchedTree } from './move-image.js';
import type { ImageTrees } from './image-trees.js';
import type { MovePlan, PlacementAuthority } from './placement-authority.js';
import { never, nothing, saga, step, type SagaEnding, type StepContext } from './saga/saga.js';

export interface MovePorts {
  readonly authority: PlacementAuthority;
  readonly hosts: MoveHosts;
  readonly debts: MoveDebts;
  readonly images: ImageTrees;
}

export interface MoveInput {
  readonly moveId: MoveId;
  readonly projectId: ProjectId;
  readonly fromHostId: HostId;
  readonly toHostId: HostId;
  /** At most so many rounds of deltas before the project is stopped. */
  readonly roundsMax?: number;
}

export interface MoveSagaState {
  readonly usedBytes?: number;
  readonly imageDigest?: string;
  readonly sendImage?: boolean;
  readonly manifest?: MoveManifest;
  readonly wasRunning?: boolean;
  readonly bytes?: number;
  readonly rounds?: number;
  readonly newGeneration?: number;
  readonly overQuota?: boolean;
  readonly startError?: CodedErrorView;
}

export interface MoveResult {
  readonly projectId: ProjectId;
  readonly hostId: HostId;
  readonly generation: number;
  /** Bytes that went over the wire. */
  readonly bytes: number;
  readonly overQuota: boolean;
  /** It was to run again there and does not: what its start said. */
  readonly startError?: CodedErrorView;
}

/** What the destination holds of an undone move is in nobody's way: it is not waited for long. */
const abandonMs = 5_000;

/** The types of `moveProject`. */
export interface MoveSagaTypes {
  readonly ports: MovePorts;
  readonly input: MoveInput;
  readonly state: MoveSagaState;
  readonly result: MoveResult;
}

type Context = StepContext<MoveSagaTypes>;

const unknownImage = 'nobody could say what it holds.';

/**
 * Moves a project from one host to another.
 *
 * Until `committing`, the source owns the project and every step can be undone. The commit is one
 * transaction on move state, attempt and generation. After it there is only forward.
 *
 * The undos run from the failed step back: a project that was fenced runs again on its source
 * before anything is asked of the destination, which may be the one that is gone. Then what it
 * holds is written down as owed, and the move ends. So is the removal of a source that went away
 * after the destination had taken over.
 */
export const moveProject = saga<MoveSagaTypes>(
  'project.move',
  [
    step('preparing', {
      do: reserveAndAuthorize,
      undo: revokeAndDropLanding,
      retry: { attempts: 3 },
    }),
    // The project runs meanwhile: a network that is away for a minute is worth waiting for.
    step('copying', {
      do: copyRounds,
      undo: resumeAtSource,
      retry: { attempts: 12, maxMs: 15_000 },
    }),
    // Every writer is fenced, durably, before the last picture is taken: what is acknowledged after
    // the picture would be lost. Only the source's own database can hold the fence over a reboot.
    // The project stands still from here on: a destination that does not come back within seconds
    // is not waited for.
    step('cutover', {
      do: fenceStopAndSendLast,
      undo: resumeAtSource,
      retry: { attempts: 8, maxMs: 3000 },
    }),
    // Before ownership changes: afterwards the source's copy is the one to be thrown away.
    step('verifying', {
      do: verifyArrived,
      undo: nothing('reads only'),
      retry: { attempts: 2 },
    }),
    // A worker that lost its lease may stand right before this step. It cannot commit: the
    // transaction asks for the newest attempt, and `beginUndo` takes the state `committing` away
    // before a single effect is undone.
    step('committing', {
      do: changeOwner,
      pointOfNoReturn: preventCommit,
      undo: never('the owner has changed: the destination holds the only copy that may be written'),
    }),
    step('activating', {
      do: activateAtDestination,
      undo: never('the destination owns the project'),
    }),
    // Last: until the destination has said that the project lives there, the source's copy stays.
    step('cleaning', { do: retireSource, undo: never('the destination owns the project') }),
  ],
  {
    start: () => ({}),
    result: (state, input) => ({
      projectId: input.projectId,
      hostId: input.toHostId,
      generation: known(state.newGeneration, 'newGeneration'),
      bytes: state.bytes ?? 0,
      overQuota: state.overQuota ?? false,
      ...(state.startError && { startError: state.startError }),
    }),
    ended: showEnding,
  },
);

async function reserveAndAuthorize(context: Context): Promise<Partial<MoveSagaState>> {
  const plan = await enter(context, 'preparing');
  const { moveId } = context.input;
  const fence = fenceOf(context, plan);
  const options = { signal: context.signal };
  const found = await source(context).describe({ fence, moveId }, options);
  const imageDigest = found.imageDigest ?? plan.spec.imageDigest;
  const imageTree = await vouchedTree(context, fence, imageDigest, found.tellsImageTree);
  const { hasImage, checksImages } = await destination(context)
    .prepare(
      {
        fence,
        moveId,
        sourceHostId: plan.fromHostId,
        sourceTransferKey: plan.sourceTransferKey,
        spec: { ...plan.spec, ...(imageDigest !== undefined && { imageDigest }) },
        needBytes: found.usedBytes,
        ...(imageTree !== undefined && { imageTree }),
      },
      { ...options, onProgress: context.progress },
    )
    .catch((error: unknown) => {
      // Nobody listens on its subject: that is what a person should read, not the subject.
      if (!isAway(error) || CodedError.is(error, 'TIMEOUT')) throw error;
      throw MoveErrors.DESTINATION_OFFLINE({ hostId: plan.toHostId }, { cause: error });
    });
  const lacksImage = imageDigest !== undefined && !hasImage;
  // Before the project's bytes go over: a move that cannot have the image ends early.
  const isFetched = lacksImage && checksImages && imageTree === undefined;
  if (isFetched) await fetchInstead(context, plan, { fence, imageDigest, reason: unknownImage });
  return {
    usedBytes: found.usedBytes,
    ...(imageDigest !== undefined && { imageDigest }),
    sendImage: lacksImage && !isFetched,
  };
}

async function revokeAndDropLanding(context: Context): Promise<void> {
  const { plan, fence } = await planOf(context);
  const { moveId, toHostId: hostId } = plan;
  await payOrOwe(context, { kind: 'abandon', hostId, fence, moveId }, abandonMs);
}

/** Does it now if the host answers; else it is done when the host is back. */
async function payOrOwe(context: Context, debt: MoveDebt, timeoutMs?: number): Promise<void> {
  const { hosts, debts } = context.ports;
  const limit = timeoutMs === undefined ? undefined : AbortSignal.timeout(timeoutMs);
  const signal = limit ? AbortSignal.any([context.signal, limit]) : context.signal;
  try {
    await payMoveDebt(hosts, debt, { signal });
  } catch (error) {
    context.signal.throwIfAborted();
    if (limit?.aborted !== true && !isAway(error)) throw error;
    await debts.owe(debt);
  }
}

async function copyRounds(context: Context): Promise<Partial<MoveSagaState>> {
  const plan = await enter(context, 'copying');
  const { roundsMax } = context.input;
  const { imageDigest, sendImage = false } = context.state;
  const fence = fenceOf(context, plan);
  const copy = (withImage: boolean) =>
    source(context).copy(
      {
        fence,
        moveId: plan.moveId,
        target: plan.target,
        sendImage: withImage,
        ...(roundsMax !== undefined && { roundsMax }),
      },
      { signal: context.signal, onProgress: context.progress },
    );
  const { bytes, rounds } = await copy(sendImage).catch(async (error: unknown) => {
    if (!CodedError.is(error, 'IMAGE_DIFFERS') || imageDigest === undefined) throw error;
    await fetchInstead(context, plan, { fence, imageDigest, reason: error.message });
    return copy(false);
  });
  return { bytes, rounds };
}

async function fenceStopAndSendLast(context: Context): Promise<Partial<MoveSagaState>> {
  const plan = await enter(context, 'cutover');
  const last = await source(context).cutover(
    { fence: fenceOf(context, plan), moveId: plan.moveId, target: plan.target },
    { signal: context.signal, onProgress: context.progress },
  );
  return {
    manifest: last.manifest,
    wasRunning: last.wasRunning,
    bytes: (context.state.bytes ?? 0) + last.bytes,
  };
}

/**
 * Undo of copying and of cutover. The source's journal knows whether the project ran, also when the
 * reply that would have told us is the one that was lost.
 */
async function resumeAtSource(context: Context): Promise<void> {
  const { plan, fence } = await planOf(context);
  await source(context).resume(
    { fence, moveId: plan.moveId, restart: true },
    { signal: context.signal },
  );
  const { authority } = context.ports;
  await authority.setState(plan.moveId, context.attempt, 'undoing', { resumed: true });
}

async function verifyArrived(context: Context): Promise<void> {
  const plan = await enter(context, 'verifying');
  await destination(context).verify(
    {
      fence: fenceOf(context, plan),
      moveId: plan.moveId,
      manifest: known(context.state.manifest, 'manifest'),
    },
    { signal: context.signal },
  );
}

async function changeOwner(context: Context): Promise<Partial<MoveSagaState>> {
  const plan = await enter(context, 'committing');
  const newGeneration = await context.ports.authority.commit({
    moveId: plan.moveId,
    projectId: plan.projectId,
    attempt: context.attempt,
    expectedGeneration: plan.expectedGeneration,
    toHostId: plan.toHostId,
  });
  return { newGeneration };
}

async function preventCommit(context: Context): Promise<'undo' | 'forward'> {
  const { authority } = context.ports;
  const answer = await authority.beginUndo(context.input.moveId, context.attempt);
  return answer === 'committed' ? 'forward' : 'undo';
}

async function activateAtDestination(context: Context): Promise<Partial<MoveSagaState>> {
  const plan = await enter(context, 'activating');
  const { state } = context;
  const activated = await destination(context).activate(
    {
      fence: fenceOf(context, plan, known(state.newGeneration, 'newGeneration')),
      moveId: plan.moveId,
      manifest: known(state.manifest, 'manifest'),
      spec: {
        ...plan.spec,
        ...(state.imageDigest !== undefined && { imageDigest: state.imageDigest }),
      },
      start: state.wasRunning ?? false,
    },
    { signal: context.signal, onProgress: context.progress },
  );
  return activated;
}

async function retireSource(context: Context): Promise<void> {
  const plan = await enter(context, 'cleaning');
  const { moveId, fromHostId: hostId, newUrl } = plan;
  const fence = fenceOf(context, plan);
  const url = newUrl === undefined ? {} : { newUrl };
  await payOrOwe(context, { kind: 'retire', hostId, fence, moveId, ...url });
}

async function showEnding(context: Context, ending: SagaEnding): Promise<void> {
  const states = {
    succeeded: 'done',
    failed: 'failed',
    canceled: 'canceled',
    stuck: 'stuck',
  } as const satisfies Record<SagaEnding, MoveState>;
  await context.ports.authority.setState(context.input.moveId, context.attempt, states[ending]);
}

/** Shows the state before the step's first effect, which a dead worker's attempt does not survive. */
async function enter(context: Context, state: MoveState): Promise<MovePlan> {
  const { authority } = context.ports;
  const { bytes, rounds } = context.state;
  await authority.setState(context.input.moveId, context.attempt, state, {
    ...(bytes !== undefined && { bytes }),
    ...(rounds !== undefined && { rounds }),
  });
  return authority.loadMove(context.input.moveId);
}

async function planOf(context: Context) {
  const plan = await context.ports.authority.loadMove(context.input.moveId);
  return { plan, fence: fenceOf(context, plan) };
}

function fenceOf(context: Context, plan: MovePlan, generation = plan.expectedGeneration) {
  const { operationId, attempt, claim } = context;
  return { projectId: plan.projectId, generation, operationId, attempt, claim };
}

const source = (context: Context): MoveSourceClient =>
  context.ports.hosts.source(context.input.fromHostId);

const destination = (context: Context): MoveDestinationClient =>
  context.ports.hosts.destination(context.input.toHostId);

function known<V>(value: V | undefined, name: string): V {
  if (value === undefined) throw new TypeError(`the move's record lacks ${name}`);
  return value;
}

import { nothing, saga, step, type StepContext } from '@rookery/move';
import {
  fenceFor,
  jobOptions,
  placed,
  showFailure,
  startAgain,
  stopProject,
  type ProjectSagaTypes,
  type StartedAgain,
} from './common.js';

export interface Types extends ProjectSagaTypes {
  readonly input: {
    readonly projectId: string;
    /** It runs, or would if it could. */
    readonly wasRunning: boolean;
    /** Keep nothing of what was there. */
    readonly discard: boolean;
  };
  readonly state: { readonly previous?: string } & StartedAgain;
  readonly result: {
    readonly projectId: string;
    /** Snapshot of what was there; null: nothing was kept. */
    readonly previous: string | null;
  } & StartedAgain;
}
type Context = StepContext<Types>;

/**
 * Begins the root filesystem of a project anew from its image: the way out when what it holds keeps
 * the project from starting. Home stays. The project is stopped for it and started again, in the
 * ordinary mode.
 */
export const resetRootfs = saga<Types>(
  'project.reset-rootfs',
  [
    step('stopping', {
      do: async (context) => {
        if (context.input.wasRunning) await stopProject(context, { startsAgain: true });
      },
      // Nobody asked for it to be stopped: whatever happens, it is started again.
      undo: async (context) => {
        if (context.input.wasRunning) await startAgain(context);
      },
    }),
    step('resetting', {
      do: resetOnHost,
      undo: nothing(
        'the host takes the whole layer away at once, and keeps what was as a snapshot',
      ),
    }),
    step('starting', {
      do: async (context) => (context.input.wasRunning ? startAgain(context) : {}),
      undo: nothing('the undo of stopping starts it'),
    }),
  ],
  {
    start: () => ({}),
    result: (state, input) => ({
      projectId: input.projectId,
      previous: state.previous ?? null,
      ...(state.startError && { startError: state.startError }),
    }),
    ended: showFailure,
  },
);

/**
 * The snapshot has the operation's name: a step that is repeated finds it, and does not keep the
 * clean root filesystem instead of the one that was there.
 */
async function resetOnHost(context: Context): Promise<Partial<Types['state']>> {
  const project = await placed(context);
  const { discard } = context.input;
  const keepAs = discard ? undefined : `before-reset-${context.operationId.slice(0, 8)}`;
  await context.ports.hosts
    .snapshots(project.hostId)
    .resetRootfs(
      { fence: fenceFor(context, project), ...(keepAs !== undefined && { keepAs }) },
      jobOptions(context),
    );
  await context.ports.records.change(context, project, { rescue: false });
  return keepAs === undefined ? {} : { previous: keepAs };
}

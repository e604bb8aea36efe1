import { nothing, saga, step } from '@rookery/move';
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
    readonly name: string;
    /** Absent: the whole project. */
    readonly path?: string;
    readonly wasRunning: boolean;
  };
  readonly state: { readonly previous?: string } & StartedAgain;
  readonly result: {
    readonly projectId: string;
    readonly previous: string | null;
  } & StartedAgain;
}

/** Goes back to a snapshot. A whole restore stops the project for it and starts it again. */
export const restoreSnapshot = saga<Types>(
  'snapshot.restore',
  [
    step('stopping', {
      do: async (context) => {
        if (context.input.wasRunning && context.input.path === undefined) {
          await stopProject(context, { startsAgain: true });
        }
      },
      // Nobody asked for it to be stopped: whatever happens, it runs again.
      undo: async (context) => {
        if (context.input.wasRunning && context.input.path === undefined) {
          await startAgain(context);
        }
      },
    }),
    step('restoring', {
      do: async (context) => {
        const project = await placed(context);
        const { name, path } = context.input;
        const { previous } = await context.ports.hosts
          .snapshots(project.hostId)
          .restore(
            { fence: fenceFor(context, project), name, ...(path !== undefined && { path }) },
            jobOptions(context),
          );
        // What it was rescued from is not there any more.
        if (path === undefined) {
          await context.ports.records.change(context, project, { rescue: false });
        }
        return previous === undefined ? {} : { previous };
      },
      undo: nothing('the host swaps the whole content at once, and keeps what was as a snapshot'),
    }),
    step('starting', {
      do: async (context) => {
        const { wasRunning, path } = context.input;
        return wasRunning && path === undefined ? startAgain(context) : {};
      },
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

import { nothing, saga, step, type SagaTypes } from '@rookery/move';
import { specOf } from '../../projects/project.queries.js';
import {
  fenceFor,
  jobOptions,
  placed,
  showFailure,
  startProject,
  type HubPorts,
} from './common.js';
import type { Before, LifeTypes } from './project-life.saga.js';

export interface DeleteCopyTypes extends SagaTypes {
  readonly ports: HubPorts;
  readonly input: {
    readonly hostId: string;
    readonly projectId: string;
    /** A copy of a newer one stays. */
    readonly generation: number;
  };
  readonly state: object;
  readonly result: { readonly hostId: string; readonly projectId: string };
}

/**
 * Removes what a host holds of a project that is not its own. It takes the project's turn, so that
 * no restore or move brings the project to that host meanwhile.
 */
export const deleteCopy = saga<DeleteCopyTypes>(
  'host.delete-copy',
  [
    step('deleting', {
      do: async (context) => {
        const { hostId, projectId, generation } = context.input;
        const { operationId, attempt, claim, signal } = context;
        const fence = { projectId, generation, operationId, attempt, claim };
        await context.ports.hosts.copies(hostId).delete({ fence }, { signal });
      },
      undo: nothing('what was removed is gone; what is left is removed by the next try'),
    }),
  ],
  {
    start: () => ({}),
    result: (_state, { hostId, projectId }) => ({ hostId, projectId }),
  },
);

/** Takes files that are on the owner's disk for the project again, and starts it if it shall run. */
export const adoptProject = saga<LifeTypes<Before & { readonly start: boolean }>>(
  'project.adopt',
  [
    step('adopting', {
      do: async (context) => {
        const project = await placed(context);
        const { hosts, records } = context.ports;
        const view = await hosts
          .projects(project.hostId)
          .adopt({ fence: fenceFor(context, project), spec: specOf(project) }, jobOptions(context));
        await records.fromHost(context, project, view);
      },
      undo: nothing('the files are where they were, and the hub says as before whose they are'),
    }),
    step('starting', {
      do: async (context) => {
        if (context.input.start) await startProject(context);
      },
      undo: nothing('the project stays as it is, with its error, for its owner to see'),
    }),
  ],
  {
    start: () => ({}),
    result: (_state, { projectId }) => ({ projectId }),
    ended: (context, ending) => showFailure(context, ending, context.input.before),
  },
);

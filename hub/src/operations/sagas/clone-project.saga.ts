import { CodedError } from '@rookery/core';
import { nothing, saga, step, StepWaits, type StepContext } from '@rookery/move';
import { specOf } from '../../projects/project.queries.js';
import type { ChildOperations } from './children.js';
import {
  fenceFor,
  jobOptions,
  placed,
  showFailure,
  startProject,
  type HubPorts,
  type ProjectSagaTypes,
} from './common.js';

export interface Types extends ProjectSagaTypes {
  readonly ports: HubPorts & { readonly children: ChildOperations };
  readonly input: {
    /** The new project; it begins on the source's host. */
    readonly projectId: string;
    readonly fromProjectId: string;
    readonly snapshot?: string;
    /** Where the copy shall end, when not there. */
    readonly toHost?: string;
    readonly start: boolean;
  };
  readonly result: { readonly projectId: string };
}
type Context = StepContext<Types>;

const staysToBeSeen = nothing('the new project stays, with its error, to be deleted by its owner');

/** Copies a project on its own host, then moves the copy where it is wanted. */
export const cloneProject = saga<Types>(
  'project.clone',
  [
    step('cloning', { do: cloneOnHost, undo: staysToBeSeen }),
    step('moving', { do: moveCopy, undo: staysToBeSeen }),
    step('starting', {
      do: async (context) => {
        if (context.input.start) await startProject(context);
      },
      undo: staysToBeSeen,
    }),
  ],
  {
    start: () => ({}),
    result: (_state, input) => ({ projectId: input.projectId }),
    ended: showFailure,
  },
);

async function cloneOnHost(context: Context): Promise<void> {
  const project = await placed(context);
  const { hosts, records } = context.ports;
  const { fromProjectId, snapshot } = context.input;
  const view = await hosts.projects(project.hostId).clone(
    {
      fence: fenceFor(context, project),
      fromProjectId,
      spec: specOf(project),
      ...(snapshot !== undefined && { fromSnapshot: snapshot }),
    },
    jobOptions(context),
  );
  await records.fromHost(context, project, view);
}

/**
 * The move is an operation of its own, with its own record; meanwhile it has the project, and this
 * one no worker: as many clones as there are workers would leave none for their moves.
 */
async function moveCopy(context: Context): Promise<void> {
  const { projectId, toHost } = context.input;
  if (toHost === undefined) return;
  const { children } = context.ports;
  const { operationId: parentId, attempt } = context;
  const ended = (await children.list(parentId)).find((child) => child.ended);
  if (!ended) {
    await children.setLane(parentId, attempt, null);
    const { operationId } = await children.beginMove({ parentId, projectId, host: toHost });
    throw new StepWaits(`move ${operationId}`);
  }
  await children.setLane(parentId, attempt, 'lifecycle');
  if (ended.error) throw new CodedError(ended.error);
}

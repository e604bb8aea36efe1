import type { Egress, Quota } from '@rookery/core/contract';
import { nothing, saga, step, type StepContext } from '@rookery/move';
import type { Project } from '../../database/entities/project.entity.js';
import { specOf } from '../../projects/project.queries.js';
import {
  createOnHost,
  fenceFor,
  jobOptions,
  placed,
  showFailure,
  startProject,
  stopProject,
  type ProjectSagaTypes,
} from './common.js';

export interface LifeTypes<Input> extends ProjectSagaTypes {
  readonly input: { readonly projectId: string } & Input;
  readonly result: { readonly projectId: string };
}
const life = {
  start: () => ({}),
  result: (_state: object, input: { readonly projectId: string }) => ({
    projectId: input.projectId,
  }),
};

// A project whose volume or image could not be had stays, with its error: its owner reads why, and
// starts it again or deletes it. So the steps of a project's life are not undone but repeated.
const staysToBeSeen = nothing('the project stays as it is, with its error, for its owner to see');

/** Makes the volume and fetches the image; starts when asked. */
export const createProject = saga<LifeTypes<{ readonly start: boolean }>>(
  'project.create',
  [
    step('creating', { do: createOnHost, undo: staysToBeSeen }),
    step('starting', {
      do: async (context) => {
        if (context.input.start) await startProject(context);
      },
      undo: staysToBeSeen,
    }),
  ],
  { ...life, ended: showFailure },
);

export interface Before {
  /** What the project was when the operation was asked for. */
  readonly before: Project['state'];
}

export interface StartInput extends Before {
  /** With a clean root filesystem, its own mounted aside. Absent in work of earlier releases: no. */
  readonly rescue?: boolean;
}

export const startProjectSaga = saga<LifeTypes<StartInput>>(
  'project.start',
  [
    step('starting', {
      do: (context) => startProject(context, { rescue: context.input.rescue === true }),
      undo: staysToBeSeen,
    }),
  ],
  { ...life, ended: (context, ending) => showFailure(context, ending, context.input.before) },
);

export const stopProjectSaga = saga<LifeTypes<Before & { readonly graceMs: number }>>(
  'project.stop',
  [
    step('stopping', {
      do: async (context) => {
        await stopProject(context, { graceMs: context.input.graceMs });
      },
      undo: staysToBeSeen,
    }),
  ],
  { ...life, ended: (context, ending) => showFailure(context, ending, context.input.before) },
);

export type DeleteTypes = LifeTypes<Before>;

/** Backups stay. The row stays too, marked, for the operations and audit rows that name it. */
export const deleteProject = saga<DeleteTypes>(
  'project.delete',
  [
    step('stopping', {
      do: async (context) => {
        const { before } = context.input;
        const project = await context.ports.records.load(context.input.projectId);
        const alive = before === 'running' || before === 'starting';
        if (alive && project.hostId !== null) await stopProject(context);
      },
      undo: staysToBeSeen,
    }),
    step('deleting', { do: deleteOnHost, undo: staysToBeSeen }),
    step('forgetting', {
      do: async (context) => {
        const { records } = context.ports;
        const project = await records.load(context.input.projectId);
        if (project.deletedAt !== null) return;
        await records.change(context, project, {
          deletedAt: new Date(),
          hostId: null,
          desiredState: 'deleted',
          error: null,
        });
      },
      undo: nothing('the last step'),
    }),
  ],
  { ...life, ended: (context, ending) => showFailure(context, ending, context.input.before) },
);

async function deleteOnHost(context: StepContext<DeleteTypes>): Promise<void> {
  const project = await context.ports.records.load(context.input.projectId);
  if (project.hostId === null) return;
  const host = context.ports.hosts.projects(project.hostId);
  await host.delete({ fence: fenceFor(context, project) }, jobOptions(context));
}

export interface UpdateInput {
  readonly quota: Quota;
  readonly publicPorts: number[];
  /** Null: what the host allows. Absent in work of earlier releases: as it is. */
  readonly egress?: Egress | null;
}

/** The host first: it alone knows whether the new limit is below what is used. */
export const updateProject = saga<LifeTypes<UpdateInput>>(
  'project.update',
  [
    step('updating', {
      do: async (context) => {
        const { hosts, records } = context.ports;
        const { projectId, quota, publicPorts } = context.input;
        const before = await records.load(projectId);
        const { egress = before.egress } = context.input;
        const project = { ...before, runQuota: quota, publicPorts, egress };
        if (project.hostId !== null && project.provisioned) {
          const target = await placed(context);
          const spec = specOf(project);
          await hosts
            .projects(target.hostId)
            .update({ fence: fenceFor(context, project), spec }, { signal: context.signal });
        }
        await records.change(context, project, { runQuota: quota, publicPorts, egress });
      },
      undo: nothing('the host refused, or took the limits over whole'),
    }),
  ],
  life,
);

import type { BackupRecord } from '@rookery/fleet/contract';
import { nothing, saga, step, type StepContext } from '@rookery/move';
import { specOf } from '../../projects/project.queries.js';
import {
  fenceFor,
  jobOptions,
  placed,
  showFailure,
  startProject,
  type ProjectContext,
  type ProjectSagaTypes,
} from './common.js';
import { restoring, type BackupChoice } from './restoring.js';

export interface RunTypes extends ProjectSagaTypes {
  readonly input: { readonly projectId: string; readonly tags: string[] };
  readonly state: { readonly backupId?: string };
  readonly result: { readonly projectId: string; readonly backupId: string };
}

/** A repeated call finds the backup it already made: the host tags it with the operation. */
export async function backUp(
  context: ProjectContext,
  tags: string[],
  options: { verify?: boolean } = {},
): Promise<BackupRecord> {
  const project = await placed(context);
  const { hosts, records } = context.ports;
  const record = await hosts.backups(project.hostId).run(
    {
      fence: fenceFor(context, project),
      spec: specOf(project),
      name: project.title,
      tags,
      ...options,
    },
    jobOptions(context),
  );
  await records.addBackup(context, project.hostId, record);
  return record;
}

export const runBackup = saga<RunTypes>(
  'backup.run',
  [
    step('backing-up', {
      do: async (context) => ({
        backupId: (await backUp(context, [...context.input.tags])).backupId,
      }),
      undo: nothing('one backup more does no harm'),
    }),
  ],
  {
    start: () => ({}),
    result: (state, input) => ({ projectId: input.projectId, backupId: state.backupId ?? '' }),
  },
);

export interface RestoreTypes extends ProjectSagaTypes {
  readonly input: BackupChoice & {
    /** The new project. */
    readonly projectId: string;
    readonly start: boolean;
  };
  readonly result: { readonly projectId: string };
}

/** Restores into a new project: nothing of the old one is touched. */
export const restoreIntoNew = saga<RestoreTypes>(
  'backup.restore',
  [
    step('restoring', {
      do: restoreWhole,
      undo: nothing('the new project stays, with its error, to be deleted by its owner'),
    }),
    step('starting', {
      do: async (context) => {
        if (context.input.start) await startProject(context);
      },
      undo: nothing('it stays stopped'),
    }),
  ],
  {
    start: () => ({}),
    result: (_state, input) => ({ projectId: input.projectId }),
    ended: showFailure,
  },
);

async function restoreWhole(context: StepContext<RestoreTypes>): Promise<void> {
  const project = await placed(context);
  const { hosts, records } = context.ports;
  const { fromProjectId } = context.input;
  await restoring(context, project.hostId, context.input, (backupId) =>
    hosts.backups(project.hostId).restore(
      {
        fence: fenceFor(context, project),
        spec: specOf(project),
        fromProjectId,
        backupId,
        replace: false,
      },
      jobOptions(context),
    ),
  );
  await records.change(context, project, { state: 'stopped', error: null, provisioned: true });
}

export interface RestorePathTypes extends ProjectSagaTypes {
  readonly input: BackupChoice & {
    readonly projectId: string;
    readonly path: string;
  };
  readonly result: { readonly projectId: string };
}

export const restorePath = saga<RestorePathTypes>(
  'backup.restore-path',
  [
    step('restoring', {
      do: async (context) => {
        const project = await placed(context);
        const { fromProjectId, path } = context.input;
        const fence = fenceFor(context, project);
        const host = context.ports.hosts.backups(project.hostId);
        await restoring(context, project.hostId, context.input, (backupId) =>
          host.restorePath({ fence, fromProjectId, backupId, path }, jobOptions(context)),
        );
      },
      undo: nothing('the host replaces the path only once it has it whole'),
    }),
  ],
  { start: () => ({}), result: (_state, input) => ({ projectId: input.projectId }) },
);

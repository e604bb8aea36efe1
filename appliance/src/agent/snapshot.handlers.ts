import type { Handlers } from '@rookery/rpc/contract';
import type { RunnerService } from '@rookery/runner';
import type { hostSnapshots, SnapshotView } from '@rookery/fleet/contract';
import type { Snapshot, StorageDriver } from '@rookery/storage/contract';

/** Snapshots over conat. Who may ask, and when, was settled before (see `fenced`). */
export function snapshotHandlers(
  storage: StorageDriver,
  runner: Pick<RunnerService, 'whileStopped' | 'resetRootfs'>,
): Handlers<typeof hostSnapshots> {
  return {
    create: async ({ fence, name }) => toView(await storage.createSnapshot(fence.projectId, name)),
    list: async ({ projectId }) => ({
      snapshots: (await storage.listSnapshots(projectId)).map(toView),
    }),
    setLocked: async ({ fence, name, locked }) =>
      toView(await storage.setSnapshotLocked(fence.projectId, name, locked)),
    delete: async ({ fence, name }) => {
      await storage.deleteSnapshot(fence.projectId, name);
      return {};
    },
    restore: async ({ fence, name, path }) => {
      const { projectId } = fence;
      if (path === undefined) {
        return runner.whileStopped(projectId, () => storage.restoreSnapshot(projectId, name));
      }
      await storage.restoreSnapshotPath(projectId, name, path);
      return {};
    },
    resetRootfs: async ({ fence, keepAs }) => {
      await runner.resetRootfs(fence.projectId, { keepAs });
      return {};
    },
    usage: ({ projectId }) => storage.usage(projectId),
  };
}

function toView({ name, createdAt, locked, exclusiveBytes }: Snapshot): SnapshotView {
  return {
    name,
    createdAt: new Date(createdAt).toISOString(),
    locked,
    ...(exclusiveBytes !== undefined && { exclusiveBytes }),
  };
}

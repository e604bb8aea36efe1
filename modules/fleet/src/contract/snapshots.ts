/** What a host offers over conat about a project's snapshots. */
import { call, job, service } from '@rookery/rpc/contract';
import { Fence, ProjectId, RelativePath, SnapshotName } from '@rookery/core/contract';
import { z } from 'zod';

export const SnapshotView = z.object({
  name: z.string(),
  createdAt: z.iso.datetime(),
  /** Bytes that only this snapshot holds; absent where the driver cannot tell cheaply. */
  exclusiveBytes: z.int().min(0).optional(),
  locked: z.boolean(),
});
export type SnapshotView = z.infer<typeof SnapshotView>;

export const VolumeUsage = z.object({
  /** What counts against the quota: live, overlay, snapshots, persistence. */
  usedBytes: z.int().min(0),
  /** Absent: no limit is enforced. */
  limitBytes: z.int().min(0).optional(),
});
export type VolumeUsage = z.infer<typeof VolumeUsage>;

export const hostSnapshots = service(
  'host.{hostId}.snapshots',
  { version: 1 },
  {
    create: call(z.object({ fence: Fence, name: SnapshotName }), SnapshotView, {
      timeoutMs: 30_000,
      idempotent: true,
    }),
    list: call(z.object({ projectId: ProjectId }), z.object({ snapshots: z.array(SnapshotView) }), {
      idempotent: true,
    }),
    setLocked: call(
      z.object({ fence: Fence, name: SnapshotName, locked: z.boolean() }),
      SnapshotView,
      {
        idempotent: true,
      },
    ),
    delete: call(z.object({ fence: Fence, name: SnapshotName }), z.object({}), {
      idempotent: true,
    }),
    /**
     * Whole: the project must be stopped; what was live is kept as a snapshot first.
     * One path: only that path under home is replaced; the project may run.
     */
    restore: job(
      z.object({ fence: Fence, name: SnapshotName, path: RelativePath.optional() }),
      z.object({
        /** Snapshot that holds what was live before a whole restore. */
        previous: z.string().optional(),
      }),
    ),
    /**
     * Begins the root filesystem of a stopped project anew; home stays. Repeating does no harm.
     * @param keepAs snapshot that keeps what was there; absent: it is lost
     */
    resetRootfs: job(z.object({ fence: Fence, keepAs: SnapshotName.optional() }), z.object({})),
    usage: call(z.object({ projectId: ProjectId }), VolumeUsage, { idempotent: true }),
  },
);

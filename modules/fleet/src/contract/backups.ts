/** What a host offers over conat about backups. */
import { call, job, service } from '@rookery/rpc/contract';
import {
  CodedErrorView,
  DisplayName,
  Fence,
  ProjectId,
  ProjectSpec,
  RelativePath,
} from '@rookery/core/contract';
import { z } from 'zod';

/** One backup in a repository; `backupId` is the repository's own snapshot id. */
export const BackupRecord = z.object({
  backupId: z.string().regex(/^[0-9a-f]{8,64}$/),
  projectId: ProjectId,
  createdAt: z.iso.datetime(),
  driver: z.enum(['restic', 'rustic']),
  /** Name of the repository; hosts that share it can restore from it. */
  repository: z.string(),
  bytes: z.int().min(0),
  files: z.int().min(0),
  bytesAdded: z.int().min(0),
  durationMs: z.int().min(0),
  tags: z.array(z.string()).default([]),
  /** Read back whole and found to be what was backed up. */
  verified: z.boolean().optional(),
});
export type BackupRecord = z.infer<typeof BackupRecord>;

/** The tag that tells a project's name without a look into the backup; programs part tags at commas. */
export const nameTag = (name: string): string => `name:${encodeURIComponent(name)}`;

/** @returns undefined for a backup that does not tell, or not in this form. */
export function nameOfTags(tags: readonly string[]): string | undefined {
  const tag = tags.find((text) => text.startsWith('name:'));
  if (tag === undefined) return undefined;
  try {
    return DisplayName.safeParse(decodeURIComponent(tag.slice('name:'.length))).data;
  } catch {
    return undefined;
  }
}

/** A host's repository. `id` is what it was found to be, `knownId` what the host remembers. */
export const RepositoryView = z.object({
  name: z.string(),
  state: z.enum(['ok', 'missing', 'changed', 'unreachable']),
  id: z.string().optional(),
  knownId: z.string().optional(),
  error: CodedErrorView.optional(),
});
export type RepositoryView = z.infer<typeof RepositoryView>;

export const BackupId = z
  .string()
  .regex(/^[0-9a-f]{8,64}$/, 'a backup id is 8 to 64 of the characters 0-9 and a-f');

export const hostBackups = service(
  'host.{hostId}.backup',
  { version: 1 },
  {
    /**
     * Read-only snapshot of project and persistence, back both up, drop the snapshot.
     * Tagged with the operation: a repeated call finds the backup it already made.
     * `verify`: every byte of it is read back and compared before the snapshot is dropped.
     */
    run: job(
      z.object({
        fence: Fence,
        spec: ProjectSpec,
        tags: z.array(z.string()).default([]),
        verify: z.boolean().optional(),
        /** What people call the project; the backup keeps it for whoever has nothing else. */
        name: DisplayName.optional(),
      }),
      BackupRecord,
      {
        silenceMs: 60_000,
      },
    ),
    list: call(z.object({ projectId: ProjectId }), z.object({ backups: z.array(BackupRecord) }), {
      timeoutMs: 60_000,
      idempotent: true,
    }),
    /**
     * Backups of all projects in the host's repository, those that no host has included, sorted by
     * project and id: one page of them, which begins after `after`.
     */
    listAll: call(
      z.object({
        after: z.object({ projectId: ProjectId, backupId: BackupId }).optional(),
        limit: z.int().min(1).max(250).default(250),
      }),
      z.object({ backups: z.array(BackupRecord), more: z.boolean() }),
      { timeoutMs: 60_000, idempotent: true },
    ),
    /** What a backup says itself of its project: enough to make it anew. */
    describe: call(
      z.object({ projectId: ProjectId, backupId: BackupId }),
      z.object({ spec: ProjectSpec, name: DisplayName.optional() }),
      { timeoutMs: 120_000, idempotent: true },
    ),
    /** The host's repository, as it is now. */
    repository: call(z.object({}), RepositoryView, { timeoutMs: 60_000, idempotent: true }),
    /** Makes the repository; the one that is there is used. `adopt`: also instead of another. */
    init: call(z.object({ adopt: z.boolean().optional() }), RepositoryView, {
      timeoutMs: 120_000,
      idempotent: true,
    }),
    /**
     * Whole: into a fresh volume of `fence.projectId` on this host at `fence.generation` (an
     * existing one of an older generation is replaced only when `replace`, and only once the new
     * content is complete). Which project the backup was of is `fromProjectId`. What is replaced
     * keeps its snapshots and stays as one more of them; with `discard` only locked ones stay.
     */
    restore: job(
      z.object({
        fence: Fence,
        fromProjectId: ProjectId,
        backupId: BackupId,
        spec: ProjectSpec,
        replace: z.boolean().default(false),
        discard: z.boolean().optional(),
      }),
      z.object({
        bytes: z.int().min(0),
        files: z.int().min(0),
        /** Snapshot that keeps what was replaced. */
        previous: z.string().optional(),
      }),
      { silenceMs: 60_000 },
    ),
    /**
     * How a restore with `replace` ended, for who did not hear of it. One whose content is complete
     * is finished first; any other is given up, also when its call comes only later. Then nothing
     * changes behind the answer.
     */
    settle: job(z.object({ fence: Fence }), z.object({ placed: z.boolean() }), {
      silenceMs: 60_000,
    }),
    /** One path under home, into a project that lives here; `into` defaults to the same place. */
    restorePath: job(
      z.object({
        fence: Fence,
        fromProjectId: ProjectId,
        backupId: BackupId,
        path: RelativePath,
        into: RelativePath.optional(),
      }),
      z.object({ bytes: z.int().min(0), files: z.int().min(0) }),
      { silenceMs: 60_000 },
    ),
  },
);

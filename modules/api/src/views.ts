/** What the API shows and takes. The CLI's `--json` prints these views as they are. */
import {
  AccountId,
  CodedErrorView,
  Egress,
  DisplayName,
  HostId,
  MoveState,
  OperationId,
  PlacementGeneration,
  Port,
  Progress,
  ProjectId,
  ProjectRole,
  ProjectState,
  Quota,
} from '@rookery/core/contract';
import { HostCapabilities, HostCapacity } from '@rookery/fleet/contract';
import { z } from 'zod';

const Time = z.iso.datetime();

/** What a caller may choose of a quota; absent fields keep their default or present value. */
export const QuotaInput = z.object({
  diskBytes: Quota.shape.diskBytes.unwrap().optional(),
  memoryBytes: Quota.shape.memoryBytes.unwrap().optional(),
  cpus: Quota.shape.cpus.unwrap().optional(),
  pidsMax: Quota.shape.pidsMax.unwrap().optional(),
});

export const AccountView = z.object({
  id: AccountId,
  email: z.string(),
  name: z.string(),
  admin: z.boolean(),
  /** A blocked account can do nothing; what it owns stays. */
  blocked: z.boolean().default(false),
  createdAt: Time,
});
export type AccountView = z.infer<typeof AccountView>;

/** How callers name an account. */
export const AccountName = z
  .union([AccountId, z.email().max(200)])
  .describe('id or email of an account');

export const ApiKeyView = z.object({
  id: z.uuid(),
  name: z.string(),
  createdAt: Time,
  lastUsedAt: Time.nullable(),
  expiresAt: Time.nullable(),
});
export type ApiKeyView = z.infer<typeof ApiKeyView>;

/** Where a browser is signed in. It ends with the API key that it was made with. */
export const SessionView = z.object({
  id: z.uuid(),
  keyId: z.uuid(),
  keyName: z.string(),
  /** Of the client that signed in. */
  address: z.string(),
  userAgent: z.string(),
  createdAt: Time,
  lastUsedAt: Time.nullable(),
  expiresAt: Time,
});
export type SessionView = z.infer<typeof SessionView>;

/** The move under way, or null. */
export const MoveView = z.object({
  id: z.uuid(),
  operationId: OperationId,
  state: MoveState,
  fromHostId: HostId,
  toHostId: HostId,
});
export type MoveView = z.infer<typeof MoveView>;

export const ProjectView = z.object({
  id: ProjectId,
  name: DisplayName,
  state: ProjectState,
  desiredState: z.enum(['running', 'stopped', 'archived', 'deleted']),
  hostId: HostId.nullable(),
  /** Name of the owning host. */
  host: z.string().nullable(),
  /** For programs that send a token. Ends in `/port/`; append `<p>/path`. */
  url: z.url(),
  /** For browsers: put the port for `{port}`, append `path`. Null where the hub has no such names. */
  appUrl: z.string().nullable().default(null),
  placementGeneration: PlacementGeneration,
  image: z.string(),
  imageDigest: z.string().nullable(),
  quota: Quota,
  diskUsedBytes: z.int().nullable(),
  publicPorts: z.array(Port),
  /** What it may reach; null: what its host allows. */
  egress: Egress.nullable().default(null),
  /** It runs, or is to, with a clean root filesystem and its own at `/rescue`. */
  rescue: z.boolean().default(false),
  /** The caller's role. */
  role: ProjectRole,
  lastBackupAt: Time.nullable(),
  createdAt: Time,
  move: MoveView.nullable(),
  /** Why the state is `error`, or what went wrong last. */
  error: CodedErrorView.nullable(),
});
export type ProjectView = z.infer<typeof ProjectView>;

export const CollaboratorView = z.object({
  accountId: AccountId,
  email: z.string(),
  role: ProjectRole,
});
export type CollaboratorView = z.infer<typeof CollaboratorView>;

export const PlacementView = z.object({
  id: z.uuid(),
  projectId: ProjectId,
  chosenHostId: HostId.nullable(),
  createdAt: Time,
  /** The best hosts, at most ten, best first, with what spoke for or against each. */
  candidates: z.array(
    z.object({
      hostId: HostId,
      host: z.string(),
      eligible: z.boolean(),
      score: z.number(),
      reasons: z.array(z.string()),
    }),
  ),
  /** All other hosts that were looked at, and how many of them each reason kept away. */
  others: z
    .object({ count: z.int(), reasons: z.record(z.string(), z.int()) })
    .default({ count: 0, reasons: {} }),
});
export type PlacementView = z.infer<typeof PlacementView>;

/** Why a host cannot serve, by its own word, and when it said so last. */
export const HostTrouble = CodedErrorView.extend({ at: Time });
export type HostTrouble = z.infer<typeof HostTrouble>;

export const HostView = z.object({
  id: HostId,
  name: z.string(),
  region: z.string(),
  /** `offline`: not heard of for a while; takes no placements. */
  status: z.enum(['online', 'offline']),
  /** Null: it serves, or it cannot even say what keeps it from that. */
  trouble: HostTrouble.nullable().default(null),
  schedulable: z.boolean(),
  publicUrl: z.string(),
  version: z.string(),
  capabilities: HostCapabilities,
  capacity: HostCapacity,
  projects: z.int(),
  /** What ended moves have yet to do there, when it is back. */
  owed: z.int().default(0),
  /** Of its projects, those that it does not report; each shows PROJECT_MISSING. */
  missing: z.int().default(0),
  /** Copies of projects that lie there and are not its own, those to be kept left out. */
  copies: z.int().default(0),
  /** Digests of its images that hold something else than the same image elsewhere. */
  imagesDiffering: z.array(z.string()).default([]),
  lastSeenAt: Time.nullable(),
  createdAt: Time,
});
export type HostView = z.infer<typeof HostView>;

export const HostCopyView = z.object({
  projectId: ProjectId,
  /** The project's name; null when the hub knows no such project. */
  name: z.string().nullable(),
  /**
   * Where the project is by the hub's books. `here`: on this very host, which runs no such project
   * (or one of another generation): the copy may be all that is left of it.
   */
  belongs: z.enum(['here', 'elsewhere', 'archived', 'deleted', 'unknown']),
  /** Name of the host that owns the project. */
  owner: z.string().nullable(),
  /** Of the copy's record; null: files alone. */
  generation: PlacementGeneration.nullable(),
  usedBytes: z.int().nullable(),
  /** Somebody decided to keep it. */
  kept: z.boolean(),
});
export type HostCopyView = z.infer<typeof HostCopyView>;

export const OperationView = z.object({
  id: OperationId,
  kind: z.string(),
  projectId: ProjectId.nullable(),
  hostId: HostId.nullable(),
  state: z.enum(['pending', 'running', 'undoing', 'succeeded', 'failed', 'canceled', 'stuck']),
  step: z.string().nullable(),
  progress: Progress.nullable(),
  attempt: z.int(),
  cancelRequested: z.boolean(),
  /** Why it is undone, failed or stuck. */
  error: CodedErrorView.nullable(),
  /** How often the present step has failed, and with what the last time. */
  tries: z.int().default(0),
  lastError: CodedErrorView.nullable().default(null),
  /** Whose part the present step is, and when that one was last heard of. */
  waitsFor: z
    .object({
      kind: z.enum(['host', 'operation']),
      id: z.uuid(),
      name: z.string().nullable(),
      since: Time,
    })
    .nullable()
    .default(null),
  /** What an operator who ended it by hand left, in words. */
  leaves: z.array(z.string()).default([]),
  /** What the work produced, by kind: a backup's id, a new project's id … */
  result: z.record(z.string(), z.json()).nullable(),
  parentId: OperationId.nullable(),
  createdAt: Time,
  startedAt: Time.nullable(),
  endedAt: Time.nullable(),
});
export type OperationView = z.infer<typeof OperationView>;

export const BackupView = z.object({
  id: z.string(),
  projectId: ProjectId,
  createdAt: Time,
  driver: z.string(),
  repository: z.string(),
  hostId: HostId.nullable(),
  bytes: z.int(),
  files: z.int(),
  bytesAdded: z.int(),
  durationMs: z.int(),
  tags: z.array(z.string()),
});
export type BackupView = z.infer<typeof BackupView>;

/** What a repository holds of one project. */
export const ProjectBackupsView = z.object({
  projectId: ProjectId,
  /** As the project is called here, else as its newest backup calls it. */
  name: z.string().nullable(),
  /** `unknown`: this hub never had it, or its database was lost. */
  state: z.enum(['known', 'deleted', 'unknown']),
  backups: z.int(),
  latestId: z.string(),
  latestAt: Time,
  latestBytes: z.int(),
});
export type ProjectBackupsView = z.infer<typeof ProjectBackupsView>;

export const AuditView = z.object({
  id: z.string(),
  at: Time,
  actor: z.string(),
  action: z.string(),
  subject: z.string(),
  details: z.record(z.string(), z.json()),
});
export type AuditView = z.infer<typeof AuditView>;

/** RFC 9457 problem details; `code` is from docs/ERRORS.md. */
export const Problem = z.object({
  type: z.string(),
  title: z.string(),
  status: z.int(),
  detail: z.string(),
  code: z.string(),
  retryable: z.boolean().optional(),
  details: z
    .record(z.string(), z.union([z.string(), z.number(), z.boolean(), z.null()]))
    .optional(),
});
export type Problem = z.infer<typeof Problem>;

/** Answer of every call that starts long work; follow `operation`. */
export const Started = z.object({ operation: OperationView, project: ProjectView.optional() });
export type Started = z.infer<typeof Started>;

export function pageOf<T extends z.ZodType>(
  item: T,
): z.ZodObject<{ items: z.ZodArray<T>; nextCursor: z.ZodNullable<z.ZodString> }> {
  return z.object({ items: z.array(item), nextCursor: z.string().nullable() });
}

export const PageQuery = z.object({
  limit: z.coerce.number().int().min(1).max(500).default(100),
  cursor: z.string().max(500).optional(),
});

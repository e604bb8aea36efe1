import { z } from 'zod';
import { Egress } from './egress.js';
import { OperationId, PlacementGeneration, ProjectId, Port } from './ids.js';

const GiB = 1024 ** 3;
const MiB = 1024 ** 2;

/** What one project may use. The disk limit covers live files, overlay, snapshots and persistence. */
export const Quota = z.object({
  diskBytes: z
    .int()
    .min(64 * MiB)
    .max(1024 * 1024 * GiB)
    .default(10 * GiB),
  memoryBytes: z
    .int()
    .min(32 * MiB)
    .max(16 * 1024 * GiB)
    .default(2 * GiB),
  cpus: z.number().min(0.01).max(1024).default(2),
  pidsMax: z.int().min(16).max(1_000_000).default(4096),
});
export type Quota = z.infer<typeof Quota>;

export const ProjectState = z.enum([
  'created',
  'starting',
  'running',
  'stopping',
  'stopped',
  'archived',
  'error',
]);
export type ProjectState = z.infer<typeof ProjectState>;

/** States of a move, in the order in which it passes them; the last four end or turn it. */
export const MoveState = z.enum([
  'queued',
  'preparing',
  'copying',
  'cutover',
  'verifying',
  'committing',
  'activating',
  'cleaning',
  'done',
  'undoing',
  'failed',
  'canceled',
  'stuck',
]);
export type MoveState = z.infer<typeof MoveState>;

/** Whole desired shape of a project, as the hub tells its host. */
export const ProjectSpec = z.object({
  /** Image reference as the user gave it; the host normalizes it and pins a digest. */
  image: z.string().min(1).max(512),
  /** Digest pinned earlier (a move or restore carries it); absent: resolve the reference. */
  imageDigest: z.string().optional(),
  quota: Quota,
  /** Ports that answer without a token. */
  publicPorts: z.array(Port).max(100).default([]),
  /** Absent: what its host allows. An older host takes no notice of it. */
  egress: Egress.optional(),
  /**
   * Start it with a clean root filesystem and its own mounted aside. Absent: with its own. An older
   * host takes no notice of it.
   */
  rescue: z.boolean().optional(),
});
export type ProjectSpec = z.infer<typeof ProjectSpec>;

/**
 * Carried by every call that has effects on a project.
 * A host refuses an older generation (STALE_GENERATION) and, within one operation, an older
 * attempt (STALE_ATTEMPT): a worker that lost its lease can do no harm. By the claim it tells as well
 * what comes from an operation that ended before another one began.
 */
export const Fence = z.object({
  projectId: ProjectId,
  generation: PlacementGeneration,
  operationId: OperationId,
  attempt: z.int().min(1),
  /** Number of the hub's claim: grows with each claim of any operation. */
  claim: z.int().min(1).optional(),
});
export type Fence = z.infer<typeof Fence>;

/** How far long work is. */
export const Progress = z.object({
  /** Short machine word: `pull`, `extract`, `send`, `restore` … */
  step: z.string(),
  done: z.number().min(0),
  /** Absent while unknown. */
  total: z.number().min(0).optional(),
  unit: z.enum(['bytes', 'files', 'steps', 'projects']),
  message: z.string().optional(),
});
export type Progress = z.infer<typeof Progress>;

export const CodedErrorView = z.object({
  code: z.string(),
  message: z.string(),
  status: z.int(),
  retryable: z.boolean(),
  details: z
    .record(z.string(), z.union([z.string(), z.number(), z.boolean(), z.null()]))
    .optional(),
});
export type CodedErrorView = z.infer<typeof CodedErrorView>;

/** A TCP port on which something in the project listens, or did before its container was started. */
export const ProjectListener = z.object({
  port: z.int().min(1).max(65_535),
  /** How long after the start of the container it came up, when that was seen. */
  startMs: z.int().min(0).optional(),
  /** Seen since the container was started. */
  isUp: z.boolean().default(false),
});
export type ProjectListener = z.infer<typeof ProjectListener>;

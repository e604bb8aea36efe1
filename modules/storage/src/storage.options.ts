import { z } from 'zod';

/** A snapshot count that a person can still overlook; every one costs a qgroup. */
const snapshotsMaxDefault = 100;
const MiB = 1024 ** 2;

const AbsolutePath = z
  .string()
  .regex(/^\/[^\0]*$/, 'must be an absolute path')
  .refine((path) => !path.split('/').includes('..'), 'must not hold ..');

/** Options of `StorageModule.forRoot`. */
export const StorageOptions = z.object({
  /** Folder that holds all projects; with `loopback`, where the file is mounted. */
  volume: AbsolutePath,
  /** `auto`: btrfs where the volume is one (or `loopback` is given), else plain folders. */
  driver: z.enum(['auto', 'btrfs', 'directory', 'memory']).default('auto'),
  /** Keeps the volume in a file, for machines without a btrfs disk. */
  loopback: z
    .object({
      imageFile: AbsolutePath,
      /** Size of a new file; a smaller existing one is grown to it, a larger one is left alone. */
      sizeBytes: z.int().min(256 * MiB),
    })
    .optional(),
  /** Whether `open` may make a volume where there is none. False where projects were kept already. */
  create: z.boolean().default(true),
  /** The only volume that may be opened, by its driver's `identity`. */
  identity: z.string().optional(),
  /** `btrfs` of btrfs-progs; 6.7 or newer for simple quotas. */
  btrfsProgram: z.string().min(1).default('btrfs'),
  /** Forces classic quotas, or tries simple ones first. */
  quota: z.enum(['auto', 'classic']).default('auto'),
  snapshotsPerProjectMax: z.int().min(1).max(10_000).default(snapshotsMaxDefault),
  /** New volumes, images and landing areas are refused when less than this is free beside the reserve. */
  minFreeBytes: z
    .int()
    .min(0)
    .default(64 * MiB),
  /**
   * What all projects together can never use, so that a full volume stops no host; 0: nothing. btrfs
   * alone can keep it. Default: 2 % of the volume, at least 64 MiB and at most 4 GiB.
   */
  reserveBytes: z.int().min(0).optional(),
  /**
   * What is younger than this is never removed by `reconcile`: it may have been made after the
   * caller collected what is desired.
   */
  reconcileGraceMs: z.int().min(0).default(30_000),
  /** Unmounts a loopback volume when the app closes; containers that run on it forbid that. */
  unmountOnClose: z.boolean().default(false),
});
/** As a caller writes them. */
export type StorageOptions = z.input<typeof StorageOptions>;
/** With defaults filled in. */
export type ResolvedStorageOptions = Readonly<z.output<typeof StorageOptions>>;

import { idClaimsDir, idsPerProject, networkClaimsDir } from '@rookery/core';
import { EgressMode, EgressTarget, egressTargetsMax } from '@rookery/core/contract';
import { z } from 'zod';

const MiB = 1024 ** 2;
const GiB = 1024 ** 3;

/** Above what accounts, dynamic users and the first of /etc/subuid have on an ordinary machine. */
const mappedIdsFirst = 2 ** 20;
/** Programs that keep ids as signed numbers fail beyond. */
const idsEnd = 2 ** 31;
const idRangesDefault = 4096;
const idRangesMax = idsEnd / idsPerProject;

/** A path that podman's `from:to:mode` and mount's options can carry. */
const PlainPath = z.string().regex(/^\/[^:,\s\\]*$/, 'must be absolute, without : , \\ or blanks');

export const NetworkOptions = z.object({
  /** The host's own range; hosts on one machine need different ones. */
  cidr: z.string().default('10.213.0.0/20'),
  /** Where the machine's hosts note their ranges; all of them must look in the same folder. */
  claimsDir: PlainPath.default(networkClaimsDir),
  /** Ports of the host that projects may dial at the range's first address: conat's. */
  hostPorts: z.array(z.int().min(1).max(65535)).max(16).default([]),
  /** What the projects of this host may reach at most; each may have a stricter policy. */
  egress: EgressMode.default('internet'),
  /** With `allow-list` all there is; with `internet` and `open` what is open beside that. */
  egressAllow: z.array(EgressTarget).max(egressTargetsMax).default([]),
  /** Refused although the mode allows it; clouds' metadata and link-local addresses always are. */
  deniedCidrs: z.array(z.cidrv4()).default([]),
  /** Absent: the machine's own, loopback stubs left out. */
  resolvers: z.array(z.string()).optional(),
});

export const PodmanDriverOptions = z.object({
  /** What tells the hosts of one machine apart: names of containers, links and rules derive from it. */
  hostKey: z
    .string()
    .min(1)
    .max(100)
    .regex(/^[\w.-]+$/),
  /** podman's storage, logs; survives a reboot. */
  stateDir: PlainPath,
  /** Mounts, pids, locks; best on tmpfs. Keep it short. */
  runDir: PlainPath,
  /** An empty folder to which every user may walk; containers' root filesystems are mounted on it. */
  rootDir: PlainPath.default('/run/rookery/rootfs'),
  /** A folder on the file system that holds the projects; absent: `stateDir`. */
  volumeDir: PlainPath.optional(),
  /** Each project runs as 65,536 ids of the host's own, in one of `count` ranges from `first` on. */
  ids: z
    .object({
      first: z.int().min(mappedIdsFirst).default(mappedIdsFirst),
      count: z.int().min(1).max(idRangesMax).default(idRangesDefault),
      /** Where the machine's hosts note their ranges; all of them must look in the same folder. */
      claimsDir: PlainPath.default(idClaimsDir),
    })
    .refine(({ first, count }) => first + count * idsPerProject <= idsEnd, {
      message: `first + count × 65536 must not pass ${idsEnd}`,
    })
    .prefault({}),
  /** The tools bundle that `images/tools/build.sh` assembles. */
  toolsDir: PlainPath,
  runtime: z.enum(['auto', 'runc', 'crun']).default('auto'),
  network: NetworkOptions.prefault({}),
  /**
   * Of the machine's memory, what all projects together leave to everything else. Default: 10 %, at
   * least 768 MiB (but not more than half) and at most 4 GiB.
   */
  memoryReserveBytes: z.int().min(0).optional(),
  tmpBytes: z
    .int()
    .min(MiB)
    .default(1 * GiB),
  logBytesMax: z
    .int()
    .min(64 * 1024)
    .default(10 * MiB),
});
export type PodmanDriverOptions = z.input<typeof PodmanDriverOptions>;

export const ImageOptions = z.object({
  /** Records of what references meant, and credentials while a pull runs. */
  stateDir: PlainPath,
  /** Images that lie on this machine as root filesystem tars: normalized reference → file. */
  localImages: z.record(z.string(), PlainPath).default({}),
  /** Folders whose `oci-archive:` and `dir:` images projects may use; others would be the host's files. */
  localImageDirs: z.array(PlainPath).default([]),
  /** Patterns of normalized references, `*` stands for anything. Local images are always allowed. */
  allowedImages: z.array(z.string()).default(['*']),
  /** Unpacked bytes. */
  imageBytesMax: z
    .int()
    .min(MiB)
    .default(20 * GiB),
  /** Which images are deleted when nobody uses them. */
  collect: z
    .object({
      /** Only those that nobody has used for so long. */
      unusedMs: z
        .number()
        .min(0)
        .default(24 * 3_600_000),
      /** Only while less than this part of the volume is free. */
      freePart: z.number().min(0).max(1).default(0.2),
    })
    .prefault({}),
  /** Used in place of an image that cannot be had; the project then shows why. */
  fallbackImage: z.string().optional(),
  registries: z
    .record(
      z.string(),
      z.object({
        insecure: z.boolean().optional(),
        username: z.string().optional(),
        password: z.string().optional(),
      }),
    )
    .default({}),
});
export type ImageOptions = z.input<typeof ImageOptions>;

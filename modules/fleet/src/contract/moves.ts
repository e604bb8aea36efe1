/** What hosts offer over conat so that the hub can carry a project from one to the other. */
import { call, job, service } from '@rookery/rpc/contract';
import {
  CodedErrorView,
  Fence,
  HostId,
  ImageTreeDigest,
  MoveId,
  PlacementGeneration,
  ProjectListener,
  ProjectSpec,
  SshPublicKey,
} from '@rookery/core/contract';
import { z } from 'zod';

/** One subvolume that a move carries. */
export const MoveStream = z.object({
  /** `persistence`: the project's conat store; `snapshot`: user's; `delta`: `move-*` rounds. */
  kind: z.enum(['snapshot', 'delta', 'persistence', 'image']),
  /**
   * UUID of the sender's subvolume, or the image's digest. A name would not do: a snapshot that is
   * deleted and made again under its old name must not be taken for the one that arrived.
   */
  name: z.string(),
});
export type MoveStream = z.infer<typeof MoveStream>;

/** Name under which a stream lands: unique within the move. */
export const landingItem = (stream: MoveStream): string => `${stream.kind}.${stream.name}`;

/** A snapshot as the destination must have it before ownership changes. */
export const MoveManifest = z.object({
  snapshots: z.array(
    z.object({
      name: z.string(),
      uuid: z.string(),
      locked: z.boolean(),
      /** Milliseconds since the epoch: arriving must not make a snapshot younger. */
      createdAt: z.int().min(0).optional(),
    }),
  ),
  /** The last delta: what becomes the live volume. */
  final: z.object({ name: z.string(), uuid: z.string() }).optional(),
  persistence: z.object({ name: z.string(), uuid: z.string() }).optional(),
  imageDigest: z.string().optional(),
  /** What listened at the source: requests wait at the destination until it listens there. */
  listeners: z.array(ProjectListener).optional(),
});
export type MoveManifest = z.infer<typeof MoveManifest>;

export const MoveTarget = z.object({
  hostId: HostId,
  sshHost: z.string(),
  sshPort: z.int().min(1).max(65535),
  /** Pinned host key of the destination's SSH ingress. */
  ingressKey: SshPublicKey,
});
export type MoveTarget = z.infer<typeof MoveTarget>;

/** `fence.generation` is the generation before the commit; `fence.operationId` the move's. */
const MoveCall = z.object({ fence: Fence, moveId: MoveId });

/** Served by the source. */
export const moveSource = service(
  'host.{hostId}.move.source',
  { version: 1 },
  {
    /** Sizes for the destination's reservation; refuses a project that is not here. */
    describe: call(
      MoveCall,
      z.object({
        usedBytes: z.int().min(0),
        imageDigest: z.string().optional(),
        snapshots: z.int().min(0),
        running: z.boolean(),
        /** False: a host of an earlier release, which has no `imageTree`. */
        tellsImageTree: z.boolean().default(false),
      }),
      { idempotent: true },
    ),
    /**
     * What the project's image holds by this host's word, for a hub that nobody has told yet. The
     * host reads an image once; that takes as long as reading it does.
     */
    imageTree: job(
      MoveCall.extend({ imageDigest: z.string() }),
      z.object({ treeDigest: ImageTreeDigest.optional() }),
    ),
    /**
     * Pre-copy while the project runs: snapshots in order of generation, then rounds of `move-*`
     * deltas until one is small. Skips what the destination already holds.
     */
    copy: job(
      MoveCall.extend({
        target: MoveTarget,
        roundsMax: z.int().min(1).max(20).default(5),
        /** The destination lacks the image; it travels first. */
        sendImage: z.boolean().default(false),
      }),
      z.object({ rounds: z.int().min(1), bytes: z.int().min(0), lastDeltaBytes: z.int().min(0) }),
      { silenceMs: 60_000 },
    ),
    /**
     * Fences every writer (durably, before the reply): starts, exec, snapshots, restores, backups;
     * ingress holds requests; stops the container; sends the last delta and the persistence.
     */
    cutover: job(
      MoveCall.extend({ target: MoveTarget }),
      z.object({ manifest: MoveManifest, wasRunning: z.boolean(), bytes: z.int().min(0) }),
      { silenceMs: 60_000 },
    ),
    /** Undo of cutover and copy: lifts the fence, drops temporary snapshots, starts again if it ran. */
    resume: job(
      MoveCall.extend({
        restart: z.boolean(),
        /** The commit is taken back as well: the project is here, at this newer generation. */
        takeBack: z.object({ generation: PlacementGeneration, spec: ProjectSpec }).optional(),
      }),
      z.object({}),
    ),
    /** After the destination confirmed: removes the copy; late requests get the new address. */
    retire: job(MoveCall.extend({ newUrl: z.url().optional() }), z.object({})),
  },
);

/** Served by the destination. */
export const moveDestination = service(
  'host.{hostId}.move.destination',
  { version: 1 },
  {
    /** Reserves room, checks features, makes the landing area, authorizes the source's key. */
    prepare: job(
      MoveCall.extend({
        sourceHostId: HostId,
        sourceTransferKey: SshPublicKey,
        spec: ProjectSpec,
        needBytes: z.int().min(0),
        /** What the image holds, by the hub's word: without it, none is taken from the source. */
        imageTree: ImageTreeDigest.optional(),
      }),
      z.object({
        /** True when the pinned image is cached here already and need not be sent. */
        hasImage: z.boolean(),
        /** False: a host of an earlier release, which takes an image as it is sent. */
        checksImages: z.boolean().default(false),
      }),
    ),
    /** Fetches the pinned image from where it comes from, since the source's is not to be had. */
    fetchImage: job(MoveCall.extend({ image: z.string(), imageDigest: z.string() }), z.object({})),
    /** Received UUIDs, read-only flags, every snapshot expected. Reads only. */
    verify: call(MoveCall.extend({ manifest: MoveManifest }), z.object({}), {
      // The project stands still meanwhile, and a destination that is lost never answers.
      timeoutMs: 15_000,
      idempotent: true,
    }),
    /**
     * After the commit (`fence.generation` is the new one): re-homes snapshots, clones the final one
     * to live, sets the quota last, starts the project if it ran.
     */
    activate: job(
      MoveCall.extend({ manifest: MoveManifest, spec: ProjectSpec, start: z.boolean() }),
      z.object({
        overQuota: z.boolean(),
        /** The project lives there now but does not run: what its start said. */
        startError: CodedErrorView.optional(),
      }),
    ),
    /** Undo of prepare: revokes the authorization, deletes the landing area. */
    abandon: job(
      MoveCall.extend({
        /** Also behind the commit: the source has the project again, what is here is of the past. */
        takenBack: z.boolean().default(false),
      }),
      z.object({}),
    ),
  },
);

/** The one SSH exec argument that a transfer key may use. */
export const receiveCommand = {
  format: (moveId: string, kind: string, name: string): string =>
    `receive ${moveId} ${kind} ${name}`,
  pattern:
    /^receive ([0-9a-f-]{36}) (snapshot|delta|persistence|image) ([A-Za-z0-9][A-Za-z0-9._:+-]{0,127})$/,
} as const;

/** Login of a source on the destination's SSH ingress. */
export const transferLogin = (sourceHostId: string): string => `btrfs-${sourceHostId}`;

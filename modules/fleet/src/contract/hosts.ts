/** How a host joins, reports, and hears of keys and rights. */
import { call, job, service } from '@rookery/rpc/contract';
import {
  CodedErrorView,
  EgressMode,
  DisplayName,
  Fence,
  HostId,
  ImageTreeDigest,
  MoveId,
  PlacementGeneration,
  ProjectId,
  ProjectRole,
  ProjectState,
  SshPublicKey,
  VerificationKey,
} from '@rookery/core/contract';
import { z } from 'zod';

/**
 * `idmapped`: every project runs as user ids that no other project of the host has. `shared`: the
 * host's kernel or file system cannot do that, `reason` says why.
 */
const HostIsolation = z.object({
  kind: z.enum(['idmapped', 'shared']),
  reason: z.string().max(500).optional(),
});

/** What a host can do and has; part of registration and of every heartbeat. */
export const HostCapabilities = z.object({
  storageDriver: z.enum(['btrfs', 'directory', 'memory']),
  quota: z.enum(['simple', 'classic', 'none']),
  snapshots: z.boolean(),
  sendReceive: z.boolean(),
  sendProtocol: z.int().min(0).default(0),
  backupDrivers: z.array(z.string()),
  /** Where its backups go, as it was at its last use. */
  backupRepository: z
    .object({
      name: z.string(),
      state: z.enum(['ok', 'missing', 'changed', 'unreachable']),
      id: z.string().optional(),
      knownId: z.string().optional(),
      /** Why it is not `ok`. */
      error: z.object({ code: z.string(), message: z.string() }).optional(),
    })
    .optional(),
  /** Absent: a host of an earlier release, whose projects share their user ids. */
  isolation: HostIsolation.optional(),
  /** What its projects may reach at most. Absent: a host of an earlier release, which has no limit. */
  egress: EgressMode.optional(),
  /** How much memory its projects together may use. Absent: a host of an earlier release. */
  memorySlice: z
    .object({
      kind: z.enum(['cgroup-v1', 'cgroup-v2', 'none']),
      bytes: z.int().min(0).optional(),
      /** Why there is none. */
      reason: z.string().optional(),
    })
    .optional(),
  /** Whether the kernel ends a project before the host's own processes when memory runs out. */
  memoryProtection: z
    .object({ kind: z.enum(['oom-score', 'none']), reason: z.string().optional() })
    .optional(),
  /** What its projects can never use of its disk. Absent: a host of an earlier release. */
  diskReserveBytes: z.int().min(0).optional(),
});
export type HostCapabilities = z.infer<typeof HostCapabilities>;

export const HostCapacity = z.object({
  diskBytes: z.int().min(0),
  diskFreeBytes: z.int().min(0),
  memoryBytes: z.int().min(0),
  memoryFreeBytes: z.int().min(0),
  cpus: z.number().min(0),
  projectsRunning: z.int().min(0),
});
export type HostCapacity = z.infer<typeof HostCapacity>;

/** nkeys user public key (`U…`, Ed25519): a host's identity on conat. */
export const IdentityPublicKey = z.string().regex(/^U[A-Z2-7]{55}$/);

/**
 * A new host connects with its join token as `auth_token` and may say this one thing.
 * The token is used up by success; repeating with the same keys gives the same host again.
 */
export const hostRegistration = service(
  'hosts',
  { version: 1 },
  {
    register: call(
      z.object({
        joinToken: z.string(),
        name: DisplayName,
        region: z.string().max(60).default('default'),
        identityKey: IdentityPublicKey,
        transferKey: SshPublicKey,
        /** Host key of the SSH ingress: what a source pins when it sends a move. */
        ingressKey: SshPublicKey,
        publicUrl: z.url(),
        internalUrl: z.url(),
        sshHost: z.string(),
        sshPort: z.int().min(1).max(65535),
        version: z.string(),
        capabilities: HostCapabilities,
        capacity: HostCapacity,
      }),
      z.object({ hostId: HostId, verificationKeys: z.array(VerificationKey) }),
      { timeoutMs: 15_000, idempotent: true },
    ),
  },
);

/** One project as its host sees it. */
export const ProjectReport = z.object({
  projectId: ProjectId,
  generation: PlacementGeneration,
  state: ProjectState,
  imageDigest: z.string().optional(),
  error: CodedErrorView.optional(),
  diskUsedBytes: z.int().min(0).optional(),
});
export type ProjectReport = z.infer<typeof ProjectReport>;

/** What one message of a report may hold at most: far below what the network carries in one. */
export const reportPage = { projectsMax: 1000, bytesMax: 256 * 1024 } as const;

/** So many API keys and sessions are asked about at once. */
export const credentialsMax = 1000;

/** So many moves are asked about at once. */
export const endedMovesMax = 200;

/**
 * Which part of all projects a page holds, in the order of their ids: behind `after`, up to and with
 * `upTo`; without either there is no bound. A host of an earlier release does not say.
 */
export const ReportSpan = z.object({ after: ProjectId.optional(), upTo: ProjectId.optional() });
export type ReportSpan = z.infer<typeof ReportSpan>;

/** What one message may tell of images. */
export const imageTreesMax = 200;

/** What a host's image holds, by its own word. */
export const ImageTreeReport = z.object({
  imageDigest: z.string().max(200),
  treeDigest: ImageTreeDigest,
});
export type ImageTreeReport = z.infer<typeof ImageTreeReport>;

/** Of the projects that were reported, those that the host owns by the hub's books. */
const OwnedProjects = z.array(z.object({ projectId: ProjectId, generation: PlacementGeneration }));

/** Served by the hub, called by host `{hostId}` alone. */
export const hostReports = service(
  'hosts.{hostId}',
  { version: 1 },
  {
    /**
     * Every few seconds, and at once when a state changes. Reports of a project that the host does
     * not own, or of an older generation, are ignored. A host with more projects than go into one
     * message names the first of them here and the others by `projects` right after it.
     */
    heartbeat: call(
      z.object({
        version: z.string(),
        capabilities: HostCapabilities,
        capacity: HostCapacity,
        projects: z.array(ProjectReport),
        span: ReportSpan.optional(),
        /** Digests in the host's image cache. */
        images: z.array(z.string()).default([]),
        /** How many copies of projects lie there that are not its own, those to be kept left out. */
        copies: z.int().min(0).default(0),
      }),
      z.object({
        verificationKeys: z.array(VerificationKey),
        /** Others among those reported are strays. */
        owned: OwnedProjects,
        heartbeatEveryMs: z.int().min(100),
        /** Of the hub's access rights; a host that knows an older one asks for what changed. */
        accessRevision: z.int().min(0).default(0),
      }),
      { timeoutMs: 10_000, idempotent: true },
    ),

    /** Said instead of heartbeats by a host that cannot serve. The next heartbeat takes it back. */
    trouble: call(z.object({ error: CodedErrorView }), z.object({}), {
      timeoutMs: 10_000,
      idempotent: true,
    }),

    /** The next page of a report that one heartbeat does not hold. */
    projects: call(
      z.object({
        projects: z.array(ProjectReport).max(reportPage.projectsMax),
        span: ReportSpan.optional(),
      }),
      z.object({ owned: OwnedProjects }),
      { timeoutMs: 10_000, idempotent: true },
    ),

    /** Which of these opened something there, and open nothing any more. */
    credentials: call(
      z.object({ credentialIds: z.array(z.uuid()).max(credentialsMax) }),
      z.object({ ended: z.array(z.uuid()) }),
      { timeoutMs: 10_000, idempotent: true },
    ),

    /**
     * Of moves that are over on the host: of which the hub asks nothing more, ever. Their operations
     * have ended, and nothing is owed to the host; or the hub does not know them.
     */
    endedMoves: call(
      z.object({ moveIds: z.array(MoveId).max(endedMovesMax) }),
      z.object({
        over: z.array(
          z.object({
            moveId: MoveId,
            /** The newest claim of its operation: no call of it carries a greater one. */
            claim: z.int().min(1).optional(),
          }),
        ),
      }),
      { timeoutMs: 10_000, idempotent: true },
    ),

    /**
     * What the host's images hold, said once of each: what another host said before it counts, and
     * an image that differs from it is answered and shown.
     */
    imageTrees: call(
      z.object({ trees: z.array(ImageTreeReport).max(imageTreesMax) }),
      z.object({ differing: z.array(z.string()) }),
      { timeoutMs: 10_000, idempotent: true },
    ),

    /**
     * Who may enter this host's projects. With `since`, what changed after that revision, unless
     * that is not known any more: then (`whole`) everything. Either in pages; `revision` of the
     * first one is known when all of them are.
     */
    access: call(
      z.object({
        since: z.int().min(0).optional(),
        /** Continues an answer behind this account. */
        after: z.uuid().optional(),
        /** Changes may come in pages. Absent: an earlier release, which is told everything then. */
        paged: z.boolean().default(false),
      }),
      z.object({
        revision: z.int().min(0),
        whole: z.boolean(),
        /** For each account all that it may enter here, which may be nothing. */
        accounts: z.array(
          z.object({
            accountId: z.uuid(),
            projects: z.array(z.object({ projectId: ProjectId, role: ProjectRole })),
          }),
        ),
        /** There is more behind this account. */
        next: z.uuid().optional(),
        /**
         * What was ended lately; without a credential: everything of the account. The first page of
         * everything names what tokens may still have been made with.
         */
        revoked: z.array(z.object({ accountId: z.uuid(), credentialId: z.uuid().optional() })),
      }),
      { timeoutMs: 10_000, idempotent: true },
    ),

    /** A token for the programs of a project that this host owns at this generation. */
    projectToken: call(
      z.object({ projectId: ProjectId, generation: PlacementGeneration }),
      z.object({ token: z.string() }),
      { timeoutMs: 5_000, idempotent: true },
    ),
  },
);

/** Served by a host: the hub's rights have changed, ask for them (`hosts.{hostId}.access`). */
export const hostAccess = service(
  'host.{hostId}.access',
  { version: 1 },
  {
    changed: call(z.object({}), z.object({}), {
      timeoutMs: 2_000,
      idempotent: true,
    }),
  },
);

/** Files of a project on a host that does not run them as its own. */
export const ProjectCopy = z.object({
  projectId: ProjectId,
  /** Of the record that came with it; absent: files alone, which no record speaks of. */
  generation: PlacementGeneration.optional(),
  usedBytes: z.int().min(0).optional(),
  /** An operator wants it kept: it is listed, and no problem. */
  kept: z.boolean(),
});
export type ProjectCopy = z.infer<typeof ProjectCopy>;

/** Served by a host: what lies there beside its own projects. Nothing of it runs. */
export const hostCopies = service(
  'host.{hostId}.copies',
  { version: 1 },
  {
    list: call(z.object({}), z.object({ copies: z.array(ProjectCopy) }), {
      timeoutMs: 30_000,
      idempotent: true,
    }),
    keep: call(z.object({ projectId: ProjectId, kept: z.boolean() }), z.object({}), {
      timeoutMs: 5_000,
      idempotent: true,
    }),
    /**
     * Removes a copy with its snapshots. Refused for what the host owns, and for a copy that is
     * newer than the fence's generation: then the hub knows too little to call it old.
     */
    delete: job(z.object({ fence: Fence }), z.object({})),
  },
);

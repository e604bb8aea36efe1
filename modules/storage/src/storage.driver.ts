import type { Readable } from 'node:stream';
import type { ProjectId, MoveId } from '@rookery/core/contract';

/** What a backend can do. Callers branch on these, never on a driver's name. */
export interface StorageCapabilities {
  readonly snapshots: boolean;
  readonly quota: 'simple' | 'classic' | 'none';
  /** Streams of subvolumes: what a move and a copy need. */
  readonly sendReceive: boolean;
  /** Highest send protocol; 0 without sendReceive. */
  readonly sendProtocol: number;
  readonly reflink: boolean;
  /** What all projects together can never use of the volume, so that it cannot stop its host. */
  readonly reserveBytes: number;
}

/**
 * Where a project's files are, for those who must mount them (runner) or read them (backup).
 * Everything beneath `home` and `overlay` is the project's and hostile: root goes there only
 * beneath a descriptor, never by a joined path.
 */
export interface VolumePaths {
  readonly root: string;
  readonly home: string;
  /** Holds one folder an image with the overlay's upper and work. */
  readonly overlay: string;
  readonly snapshots: string;
  /** The project's conat stores: a subvolume of its own. */
  readonly persistence: string;
  /** Neither snapshotted nor backed up nor moved. */
  readonly scratch: string;
}

export interface Volume {
  readonly projectId: ProjectId;
  readonly paths: VolumePaths;
}

export interface Snapshot {
  readonly projectId: ProjectId;
  readonly name: string;
  /** Milliseconds since the epoch. */
  readonly createdAt: number;
  readonly locked: boolean;
  /** The subvolume's own UUID, which the destination of a send sees as Received UUID. */
  readonly uuid: string;
  /** Order of creation; a later snapshot has a higher one. */
  readonly generation: number;
  readonly exclusiveBytes?: number;
}

/** A read-only picture of a project outside its quota group, so that a full project can be kept. */
export interface TemporarySnapshot extends AsyncDisposable {
  readonly projectId: ProjectId;
  /** Name under which `send` finds it. */
  readonly name: string;
  readonly uuid: string;
  readonly persistenceUuid: string;
  /** Folder that holds the project's picture (`home/`, overlay; no snapshots). */
  readonly root: string;
  readonly persistence: string;
  /** True where there are no snapshots: `root` is the live volume and may change while it is read. */
  readonly live?: boolean;
  /** Drops the pictures. Repeating does no harm. */
  release(): Promise<void>;
}

/** A folder of a project's volume where one path is laid down before it takes its place. */
export interface PathStaging extends AsyncDisposable {
  /** Empty at first, charged to the project, out of reach of its processes. */
  readonly folder: string;
  /**
   * Puts `item`, relative to the folder, at `into` under home in one step: on disk when it
   * resolves. What stood there lies in the folder then, and goes with it.
   * @param options.like a home that says whose missing parent folders are
   * @throws PATH_OUTSIDE
   */
  place(item: string, into: string, options?: { like?: string }): Promise<void>;
  /** Removes the folder. Repeating does no harm. */
  release(): Promise<void>;
}

/** Room above its limit that a project has for a while, see `withRoom`. */
export interface StorageRoom {
  /** The project is at its limit or near it: whoever takes the room up, keeps it. */
  readonly scarce: boolean;
  /** Ends it early. Repeating does no harm. */
  end(): Promise<void>;
}

/** What a stream carries: a user's snapshot, a frozen picture, its persistence, or an image. */
export type StreamSource =
  | {
      readonly kind: 'snapshot' | 'frozen' | 'persistence';
      readonly projectId: ProjectId;
      readonly name: string;
    }
  | { readonly kind: 'image'; readonly digest: string };

export interface SendOptions {
  /** Incremental against this one, which the receiver must hold. */
  readonly parent?: StreamSource;
  readonly signal?: AbortSignal;
}

/** One subvolume that arrived in a landing area. */
export interface ReceivedSubvolume {
  /** Name it lands under: unique within the move, `<kind>.<name>`. */
  readonly item: string;
  /** UUID of the sender's subvolume. */
  readonly receivedUuid: string;
  readonly readOnly: boolean;
}

/** How a landing area becomes a project. */
export interface ActivationPlan {
  readonly snapshots: readonly {
    readonly item: string;
    readonly name: string;
    readonly locked: boolean;
    /** When the sender took it; absent: when it arrived. Milliseconds since the epoch. */
    readonly createdAt?: number;
  }[];
  /** The item that becomes the live volume. */
  readonly live: string;
  readonly persistence?: string;
  readonly quotaBytes: number;
}

/** An image that a move landed. */
export interface LandedImage {
  readonly moveId: MoveId;
  readonly item: string;
  readonly digest: string;
  /** What `imageTree` says of it where it is known. */
  readonly treeDigest: string;
}

export interface StagedImage extends AsyncDisposable {
  /** Empty folder to extract into; owned by the host's root. */
  readonly path: string;
  /** Makes it the read-only image `digest`; if that is there already, keeps the old one. */
  commit(digest: string): Promise<void>;
  abort(): Promise<void>;
}

export interface StorageSpace {
  readonly totalBytes: number;
  readonly freeBytes: number;
}

/**
 * What a storage backend must do. Every method is safe to repeat; every method leaves either its
 * effect or nothing (what a crash leaves half done, `reconcile` removes).
 *
 * @throws VOLUME_NOT_FOUND, SNAPSHOT_NOT_FOUND, SNAPSHOT_LOCKED, SNAPSHOT_LIMIT, QUOTA_BELOW_USE,
 * DISK_FULL, and SNAPSHOTS_UNSUPPORTED, QUOTA_UNSUPPORTED, MOVE_UNSUPPORTED where `capabilities` say so.
 */
export abstract class StorageDriver {
  abstract readonly capabilities: StorageCapabilities;

  /** Mounts what has to be mounted and finds out the capabilities. */
  abstract open(): Promise<void>;
  abstract close(): Promise<void>;
  /** All that anybody wrote to the volume before is on disk when it resolves. */
  abstract flush(): Promise<void>;
  /** Which volume this is: survives restarts, and no other volume has it. */
  abstract identity(): Promise<string>;
  abstract space(): Promise<StorageSpace>;

  // Volumes: one a project, plus its persistence and scratch.
  abstract createVolume(id: ProjectId, options: { quotaBytes: number }): Promise<Volume>;
  /** Writes new extents: the clone is charged for every byte, the origin for none. */
  abstract cloneVolume(
    from: { projectId: ProjectId; snapshot?: string },
    to: ProjectId,
    options: { quotaBytes: number; signal?: AbortSignal },
  ): Promise<Volume>;
  /** Removes everything of the project, subvolumes that its user nested included. */
  abstract deleteVolume(id: ProjectId): Promise<void>;
  /**
   * The volume of `from` becomes that of `to`. The snapshots of `to` stay, and what was live there
   * is kept as one more. Neither may be in use. After a crash, repeating finishes the job; until
   * then neither may be used.
   * @param options.discard keeps nothing of what was live, and only the snapshots that are locked
   * @returns name of the snapshot that keeps what was live
   */
  abstract replaceVolume(
    from: ProjectId,
    to: ProjectId,
    options?: { discard?: boolean },
  ): Promise<{ previous?: string }>;
  abstract volume(id: ProjectId): Promise<Volume | undefined>;
  abstract listVolumes(): Promise<Volume[]>;

  // Snapshots: read-only, named, ordered.
  abstract createSnapshot(id: ProjectId, name: string): Promise<Snapshot>;
  abstract listSnapshots(id: ProjectId): Promise<Snapshot[]>;
  abstract setSnapshotLocked(id: ProjectId, name: string, locked: boolean): Promise<Snapshot>;
  abstract deleteSnapshot(id: ProjectId, name: string): Promise<void>;
  /**
   * Replaces the live volume of a stopped project.
   * @returns name of the snapshot that keeps what was live.
   */
  abstract restoreSnapshot(id: ProjectId, name: string): Promise<{ previous: string }>;
  /**
   * Begins the root filesystem of a stopped project anew: one folder of `overlay` goes with all that
   * is in it, in one step.
   * @param options.keepAs first takes a snapshot of this name, unless there is one: a repeated call
   * then still keeps what was there at the first. Absent: nothing is kept.
   * @throws RESET_NEEDS_DISCARD
   */
  abstract resetLayer(id: ProjectId, layer: string, options?: { keepAs?: string }): Promise<void>;
  /** Replaces one path under home; never follows a link out of it. */
  abstract restoreSnapshotPath(id: ProjectId, name: string, path: string): Promise<void>;

  /**
   * A place for a path that is to be restored, until it is released. Name it in `reconcile` for as
   * long as it is wanted; one that a dead process left and no one names is dropped.
   * @throws VOLUME_NOT_FOUND
   */
  abstract stagePath(id: ProjectId, name: string): Promise<PathStaging>;

  // TemporarySnapshots for a backup or a move.
  /** `name` must start with `backup-` or `move-`; freezing twice gives the first picture again. */
  abstract freeze(id: ProjectId, name: string): Promise<TemporarySnapshot>;
  abstract listTemporarySnapshots(
    id: ProjectId,
  ): Promise<{ name: string; uuid: string; createdAt: number }[]>;

  // Quota: bytes of live files, overlay, snapshots and persistence together.
  abstract setQuota(
    id: ProjectId,
    quotaBytes: number,
    options?: { allowBelowUse?: boolean },
  ): Promise<void>;
  /**
   * @param options.committed what the file system has committed by itself is enough, at most some
   * 30 s old: nothing is synced for it. Who asks for many projects, or often, asks so.
   */
  abstract usage(
    id: ProjectId,
    options?: { committed?: boolean },
  ): Promise<{ usedBytes: number; limitBytes?: number }>;
  /**
   * At its limit nobody can make as much as a folder in a project. Gives it a little room while the
   * task runs, for what the host itself must write there. Here: for drivers that stop no one.
   */
  withRoom<T>(_id: ProjectId, task: (room: StorageRoom) => Promise<T>): Promise<T> {
    return task({ scarce: false, end: () => Promise.resolve() });
  }

  /**
   * Holds all projects to what is free beside the reserve. Call it every few seconds: what is free
   * changes. Here: for drivers that stop no one.
   */
  keepReserve(): Promise<void> {
    return Promise.resolve();
  }

  // Streams: what a move carries. The landing area belongs to one move of one project.
  abstract send(source: StreamSource, options?: SendOptions): Readable;
  abstract prepareLanding(moveId: MoveId, id: ProjectId): Promise<void>;
  /**
   * Receives one subvolume; a truncated or hostile stream leaves nothing behind.
   * @throws STREAM_INVALID, STREAM_BROKEN (retryable), DISK_FULL
   */
  abstract receive(
    stream: Readable,
    landing: { moveId: MoveId; item: string },
    options?: { signal?: AbortSignal },
  ): Promise<ReceivedSubvolume>;
  abstract listLanding(moveId: MoveId): Promise<ReceivedSubvolume[]>;
  /**
   * Makes the landed subvolumes the project's volume: snapshots read-only and in its group, live
   * cloned from its item, quota set last. Repeating after a crash finishes the job.
   * @returns whether the project uses more than its quota (a flag, not an error).
   */
  abstract activateLanding(
    moveId: MoveId,
    id: ProjectId,
    plan: ActivationPlan,
  ): Promise<{ overQuota: boolean }>;
  abstract dropLanding(moveId: MoveId): Promise<void>;

  // Images: root filesystems shared read-only by all projects of the host.
  abstract stageImage(): Promise<StagedImage>;
  /**
   * Turns an image that a move landed into one of the cache, if its content is what it should be:
   * from then on all projects of the host share it. Repeating does no harm.
   * @throws IMAGE_DIFFERS; what arrived is gone then
   */
  abstract adoptImage(image: LandedImage, options?: { signal?: AbortSignal }): Promise<void>;
  /**
   * One digest of all that an image holds (docs/adr/0016): equal on every host that has the same.
   * Read once, off the event loop, and kept. @returns undefined when the image is not here
   * @throws IMAGE_UNREADABLE
   */
  abstract imageTree(digest: string): Promise<string | undefined>;
  abstract imagePath(digest: string): Promise<string | undefined>;
  abstract listImages(): Promise<string[]>;
  abstract deleteImage(digest: string): Promise<void>;

  /**
   * Removes what no one claims: half-received and orphaned subvolumes, temporary pictures, qgroups,
   * staged images. `desired` is the whole truth of what should exist. What cannot be repaired holds
   * up nothing else.
   * @throws AggregateError of the repairs that failed, after all others
   */
  abstract reconcile(desired: StorageDesired): Promise<StorageRepair[]>;
}

export interface StorageDesired {
  readonly projects: readonly { readonly projectId: ProjectId; readonly quotaBytes: number }[];
  /** Moves whose landing area is still wanted. */
  readonly moves: readonly MoveId[];
  /** Names of pictures that running backups and moves still need. */
  readonly frozen: readonly { readonly projectId: ProjectId; readonly name: string }[];
  /** Names of path stagings that running restores still need. */
  readonly stagedPaths?: readonly { readonly projectId: ProjectId; readonly name: string }[];
  /**
   * Volumes of unknown projects are only reported, never deleted, unless named here: the hub said
   * that they belong elsewhere.
   */
  readonly retired: readonly ProjectId[];
}

export interface StorageRepair {
  readonly kind:
    | 'landing-dropped'
    | 'half-received-dropped'
    | 'frozen-dropped'
    | 'staged-path-dropped'
    | 'qgroup-dropped'
    | 'quota-set'
    | 'staged-image-dropped'
    | 'retired-volume-deleted'
    | 'unknown-volume-found'
    | 'sidecar-damaged'
    | 'restore-finished'
    | 'leftover-dropped';
  readonly subject: string;
}

import type { CodedErrorJson } from '@rookery/core';
import type { ProjectId, ProjectListener, ProjectSpec, ProjectState } from '@rookery/core/contract';
import type { KnownAttempts } from './attempts.js';

/** What a host remembers of one project. */
export interface ProjectRecord {
  readonly projectId: ProjectId;
  /** Placement generation; below 0 while a restore makes the project. */
  readonly generation: number;
  readonly spec: ProjectSpec;
  /** The wish; what the container does is `state`. */
  readonly desiredState: 'running' | 'stopped';
  readonly state: ProjectState;
  /** Normalized reference and pinned digest of its image. */
  readonly imageRef: string | null;
  readonly imageDigest: string | null;
  /** Where the ingress reaches the running container. */
  readonly address: string | null;
  /** The link that leads there and to no other container; null where there are no links. */
  readonly linkIndex: number | null;
  /** When the container was started, epoch ms; null when nothing runs. */
  readonly startedAt: number | null;
  /** What listens in the container, or did when it was stopped. */
  readonly listeners: readonly ProjectListener[];
  /** It was stopped by something that starts it again; requests wait until then, epoch ms. */
  readonly startsAgainBy: number | null;
  /** Why the state is `error`, or what went wrong last. */
  readonly error: CodedErrorJson | null;
  /** The move that has shut out every writer. */
  readonly fencedBy: string | null;
  /** The restore that fills its volume. */
  readonly restoringBy: string | null;
  /** The operation that has shut out every other writer, to take the project away as it is. */
  readonly shutOutBy: string | null;
}

/** Whether it is to run with a clean root filesystem, its own mounted aside. */
export const isRescue = ({ spec }: Pick<ProjectRecord, 'spec'>): boolean => spec.rescue === true;

/** Who was let in to the project, in the transaction that asks. */
export interface AttemptMemory {
  readonly known: KnownAttempts;
  note(known: KnownAttempts): void;
}

export type ProjectChange = Partial<Omit<ProjectRecord, 'projectId'>>;

/**
 * Keeps the records of the host's projects. An app implements it over its database; a change is on
 * disk when its promise resolves. Others (moves, restores) may change the same records through it.
 */
export abstract class ProjectStore {
  abstract get(id: ProjectId): Promise<ProjectRecord | undefined>;
  abstract list(): Promise<ProjectRecord[]>;
  /**
   * Reads and changes one record in one transaction. `save` merges into what is there, or makes the
   * record (then `spec` and `generation` must be given). The task has no await: nothing else comes
   * in between, and what it throws undoes what it saved. Attempts are kept when the record is removed.
   */
  abstract change<T>(
    id: ProjectId,
    task: (
      record: ProjectRecord | undefined,
      save: (change: ProjectChange) => ProjectRecord,
      attempts: AttemptMemory,
    ) => T,
  ): Promise<T>;
  /** Unknown: nothing to do. */
  abstract remove(id: ProjectId): Promise<void>;
}

/** A record's columns before anything is known of them. */
export const emptyRecord = {
  desiredState: 'stopped',
  state: 'created',
  imageRef: null,
  imageDigest: null,
  address: null,
  linkIndex: null,
  startedAt: null,
  listeners: [] as readonly ProjectListener[],
  startsAgainBy: null,
  error: null,
  fencedBy: null,
  restoringBy: null,
  shutOutBy: null,
} as const;

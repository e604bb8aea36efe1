import type { CodedErrorJson } from '@rookery/core';
import type { ProjectListener, ProjectSpec, ProjectState } from '@rookery/core/contract';
import type { ProjectRecord } from '@rookery/runner';
import { Column, Entity, PrimaryColumn } from 'typeorm';

/** A project that is on this host. */
@Entity('projects')
export class ProjectRow implements ProjectRecord {
  @PrimaryColumn('text', { name: 'id' })
  projectId!: string;

  @Column('integer')
  generation!: number;

  @Column('simple-json')
  spec!: ProjectSpec;

  /** The wish; what the container does is `state`. */
  @Column('text')
  desiredState!: 'running' | 'stopped';

  @Column('text')
  state!: ProjectState;

  /** Normalized reference and pinned digest of its image. */
  @Column('text', { nullable: true })
  imageRef!: string | null;

  @Column('text', { nullable: true })
  imageDigest!: string | null;

  /** Where the ingress reaches the running container. */
  @Column('text', { nullable: true })
  address!: string | null;

  /** The link that leads there and to no other container. */
  @Column('integer', { nullable: true })
  linkIndex!: number | null;

  /** When the container was started, epoch ms. */
  @Column('integer', { nullable: true })
  startedAt!: number | null;

  /** What listens in the container, or did when it was stopped. */
  @Column('simple-json')
  listeners!: readonly ProjectListener[];

  /** Stopped by something that starts it again; requests wait until then, epoch ms. */
  @Column('integer', { nullable: true })
  startsAgainBy!: number | null;

  @Column('simple-json', { nullable: true })
  error!: CodedErrorJson | null;

  /** The move that has shut out every writer. */
  @Column('text', { nullable: true })
  fencedBy!: string | null;

  /** The restore that fills its volume. */
  @Column('text', { nullable: true })
  restoringBy!: string | null;

  /** The operation that has shut out every other writer. */
  @Column('text', { nullable: true })
  shutOutBy!: string | null;

  /** `held`: requests wait; `moved`: they learn the new address. */
  @Column('text')
  ingressState!: 'open' | 'held' | 'moved';

  @Column('integer')
  updatedAt!: number;
}

/** A copy of a project that is not this host's own, and that an operator wants kept. */
@Entity('kept_copies')
export class KeptCopyRow {
  @PrimaryColumn('text', { name: 'id' })
  projectId!: string;

  @Column('integer')
  keptAt!: number;
}

/** A project that was here: late requests learn where it is. */
@Entity('moved_projects')
export class MovedProjectRow {
  @PrimaryColumn('text', { name: 'id' })
  projectId!: string;

  @Column('text', { nullable: true })
  newUrl!: string | null;

  @Column('integer')
  movedAt!: number;
}

import type {
  CodedErrorView,
  Egress,
  ProjectRole,
  ProjectState,
  Quota,
} from '@rookery/core/contract';
import { Column, Entity, PrimaryColumn } from 'typeorm';
import { asNumber } from './columns.js';

export type DesiredState = 'running' | 'stopped' | 'archived' | 'deleted';

/** The move under way, as the project shows it. */
export interface MoveStatus {
  readonly operationId: string;
  readonly state: string;
  /** It stands still for the move, whatever it was before. */
  readonly fenced?: boolean;
}

@Entity('projects')
export class Project {
  @PrimaryColumn('uuid') id!: string;
  @Column('text') title!: string;
  /** The one owner; null when archived or never placed. */
  @Column('uuid', { nullable: true }) hostId!: string | null;
  /** Name and URL of the host when it became the owner, for listings without a join. */
  @Column('jsonb', { nullable: true }) host!: { name: string; publicUrl: string } | null;
  @Column('integer') placementGeneration!: number;
  @Column('text', { nullable: true }) rootfsImage!: string | null;
  /** Legacy name of the image; read when `rootfsImage` is null. */
  @Column('text', { nullable: true }) computeImage!: string | null;
  @Column('text', { nullable: true }) imageDigest!: string | null;
  @Column('jsonb') runQuota!: Quota;
  @Column('jsonb') publicPorts!: number[];
  /** What it may reach; null: what its host allows. */
  @Column('jsonb', { nullable: true }) egress!: Egress | null;
  @Column('text') state!: ProjectState;
  @Column('text') desiredState!: DesiredState;
  /** Started last with a clean root filesystem, its own mounted aside; says nothing once it stopped. */
  @Column('boolean', { default: false }) rescue!: boolean;
  /** Whether a host has made the volume; a start makes it first when not. */
  @Column('boolean') provisioned!: boolean;
  @Column('jsonb', { nullable: true }) moveStatus!: MoveStatus | null;
  @Column('jsonb', { nullable: true }) error!: CodedErrorView | null;
  @Column('bigint', { nullable: true, transformer: asNumber }) diskUsedBytes!: number | null;
  /** When an operation set `state`; a report that left the host before is not believed. */
  @Column('timestamptz', { nullable: true }) stateSetAt!: Date | null;
  /** Since when the reports of its host lack it. */
  @Column('timestamptz', { nullable: true }) missingSince!: Date | null;
  @Column('timestamptz', { nullable: true }) lastBackupAt!: Date | null;
  @Column('timestamptz', { nullable: true }) lastActiveAt!: Date | null;
  @Column('timestamptz', { default: () => 'now()' }) createdAt!: Date;
  @Column('timestamptz', { nullable: true }) deletedAt!: Date | null;
}

@Entity('collaborators')
export class Collaborator {
  @PrimaryColumn('uuid') projectId!: string;
  @PrimaryColumn('uuid') accountId!: string;
  @Column('text') role!: ProjectRole;
  @Column('timestamptz', { default: () => 'now()' }) createdAt!: Date;
}

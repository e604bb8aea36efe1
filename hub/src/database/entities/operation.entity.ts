import type { MoveDebt } from '@rookery/move';
import type { MoveState, CodedErrorView, Progress } from '@rookery/core/contract';
import { Column, Entity, PrimaryColumn } from 'typeorm';

export type OperationState =
  'pending' | 'running' | 'undoing' | 'succeeded' | 'failed' | 'canceled' | 'stuck';

/** A host, or another operation. */
export interface WaitsFor {
  readonly kind: 'host' | 'operation';
  readonly id: string;
  /** The host's. */
  readonly name?: string;
}

/** The generic record of long work. */
@Entity('operations')
export class Operation {
  @PrimaryColumn('uuid') id!: string;
  @Column('text') kind!: string;
  @Column('uuid', { nullable: true }) projectId!: string | null;
  @Column('uuid', { nullable: true }) hostId!: string | null;
  @Column('text') state!: OperationState;
  @Column('text', { nullable: true }) step!: string | null;
  @Column('jsonb', { nullable: true }) progress!: Progress | null;
  @Column('integer') attempt!: number;
  /** The newest; of all operations' claims in their order. Null: not claimed since they are kept. */
  @Column('bigint', { nullable: true }) claim!: string | null;
  @Column('uuid', { nullable: true }) leaseOwner!: string | null;
  @Column('timestamptz', { nullable: true }) leaseExpiresAt!: Date | null;
  /** Not claimed before this. */
  @Column('timestamptz', { default: () => 'now()' }) runAt!: Date;
  @Column('boolean') cancelRequested!: boolean;
  /** At most one active operation a project and lane (partial unique index). */
  @Column('text', { nullable: true }) lane!: 'lifecycle' | 'backup' | null;
  @Column('text', { nullable: true }) idempotencyKey!: string | null;
  @Column('uuid', { nullable: true }) parentId!: string | null;
  @Column('uuid', { nullable: true }) createdBy!: string | null;
  @Column('jsonb') input!: Record<string, unknown>;
  /** The saga's own record: which steps are done and what they returned. */
  @Column('jsonb', { nullable: true }) saga!: Record<string, unknown> | null;
  @Column('jsonb', { nullable: true }) error!: CodedErrorView | null;
  @Column('jsonb', { nullable: true }) result!: Record<string, unknown> | null;
  /** Whose part the present step is. */
  @Column('jsonb', { nullable: true }) waitsFor!: WaitsFor | null;
  /** When that one was last heard of: the step's beginning, or its newest progress. */
  @Column('timestamptz', { nullable: true }) waitsSince!: Date | null;
  /** What an operator who ended it left to do, in words. */
  @Column('jsonb', { nullable: true }) leaves!: string[] | null;
  @Column('timestamptz', { default: () => 'now()' }) createdAt!: Date;
  @Column('timestamptz', { nullable: true }) startedAt!: Date | null;
  @Column('timestamptz', { nullable: true }) endedAt!: Date | null;
}

/** `stuck` is a mark of its own, so that the state underneath is not forgotten. */
export type StoredMoveState = Exclude<MoveState, 'stuck'>;

/**
 * A change of owner: a move, or a restore in place of a live project. The row is what the commit
 * transaction asks (invariant 1); one active row a project.
 */
@Entity('project_moves')
export class ProjectMove {
  @PrimaryColumn('uuid') id!: string;
  @Column('uuid') operationId!: string;
  @Column('uuid') projectId!: string;
  @Column('text') reason!: 'move' | 'restore';
  @Column('text') state!: StoredMoveState;
  @Column('boolean', { default: false }) stuck!: boolean;
  /** Null when the project had no owner (archived). */
  @Column('uuid', { nullable: true }) fromHostId!: string | null;
  @Column('uuid') toHostId!: string;
  @Column('integer') fromGeneration!: number;
  /** Sizes and rounds, to be shown. */
  @Column('jsonb') details!: Record<string, unknown>;
  /** Set by the commit. */
  @Column('integer', { nullable: true }) newGeneration!: number | null;
  @Column('timestamptz', { default: () => 'now()' }) createdAt!: Date;
  @Column('timestamptz', { nullable: true }) committedAt!: Date | null;
  @Column('timestamptz', { nullable: true }) endedAt!: Date | null;
}

/** What a move that is over still has to do at a host; paid when the host answers. */
@Entity('host_debts')
export class HostDebt {
  @PrimaryColumn('uuid') id!: string;
  @Column('uuid') hostId!: string;
  @Column('text') kind!: MoveDebt['kind'];
  @Column('uuid') moveId!: string;
  @Column('jsonb') debt!: MoveDebt;
  @Column('integer', { default: 0 }) tries!: number;
  @Column('timestamptz', { default: () => 'now()' }) nextAt!: Date;
  @Column('jsonb', { nullable: true }) lastError!: CodedErrorView | null;
  @Column('timestamptz', { default: () => 'now()' }) createdAt!: Date;
}

/** The first answer to a POST that carried an idempotency key; `key` is its hash. */
@Entity('idempotency_records')
export class IdempotencyRecord {
  @PrimaryColumn('uuid') accountId!: string;
  @PrimaryColumn('text') key!: string;
  @PrimaryColumn('text') route!: string;
  @Column('bytea') requestHash!: Buffer;
  /** Null while the first request is being answered. */
  @Column('integer', { nullable: true }) status!: number | null;
  /** Encrypted with the key itself, of which only a hash is kept: answers may hold secrets. */
  @Column('bytea', { nullable: true }) response!: Buffer | null;
  @Column('timestamptz', { default: () => 'now()' }) createdAt!: Date;
}

import type { BackupJob } from '@rookery/backup';
import { Column, Entity, PrimaryColumn } from 'typeorm';
import type { IncomingMove, OutgoingMove } from '@rookery/move';

/** A backup or restore. The document is the whole truth; the columns are for finding it. */
@Entity('jobs')
export class JobRow {
  @PrimaryColumn('text')
  operationId!: string;

  @Column('text')
  projectId!: string;

  @Column('text')
  state!: BackupJob['state'];

  /** Null while it is pending or under way. */
  @Column('integer', { nullable: true })
  endedAt!: number | null;

  @Column('simple-json')
  document!: BackupJob;
}

/** The repository that this host uses: one row, once it has used one. */
@Entity('backup_repository')
export class BackupRepositoryRow {
  /** Always 1. */
  @PrimaryColumn('integer')
  id!: number;

  @Column('text')
  repositoryId!: string;
}

/** A move that leaves this host. */
@Entity('outgoing_moves')
export class OutgoingMoveRow {
  @PrimaryColumn('text')
  moveId!: string;

  @Column('text')
  state!: OutgoingMove['state'];

  /** Since when it is over here; null while it is not. */
  @Column('integer', { nullable: true })
  endedAt!: number | null;

  @Column('simple-json')
  document!: OutgoingMove;
}

/** A move that comes to this host; `authorized` ones let a source's key in. */
@Entity('incoming_moves')
export class IncomingMoveRow {
  @PrimaryColumn('text')
  moveId!: string;

  @Column('text')
  state!: IncomingMove['state'];

  /** As of an outgoing one. */
  @Column('integer', { nullable: true })
  endedAt!: number | null;

  @Column('simple-json')
  document!: IncomingMove;
}

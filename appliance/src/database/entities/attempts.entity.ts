import type { KnownAttempt } from '@rookery/runner';
import { Column, Entity, PrimaryColumn } from 'typeorm';

/** Who was let in to a project: stays when the project leaves, so that late calls find it. */
@Entity('attempts')
export class AttemptsRow {
  /** Empty: all projects of which nothing else is remembered. */
  @PrimaryColumn('text')
  projectId!: string;

  @Column('simple-json')
  operations!: KnownAttempt[];

  @Column('integer')
  exclusiveClaim!: number;

  @Column('integer')
  forgottenClaim!: number;

  @Column('integer')
  heardAt!: number;
}

import type { ProjectRole } from '@rookery/core/contract';
import { Column, Entity, PrimaryColumn } from 'typeorm';

/** What an account may enter here. */
@Entity('access_grants')
export class AccessGrantRow {
  @PrimaryColumn('text')
  accountId!: string;

  @PrimaryColumn('text')
  projectId!: string;

  @Column('text')
  role!: ProjectRole;
}

/** Of which revision the grants are: one row, once the hub has told any. */
@Entity('access_state')
export class AccessStateRow {
  /** Always 1. */
  @PrimaryColumn('integer')
  id!: number;

  @Column('integer')
  revision!: number;

  /** When the hub last said that this is so. */
  @Column('integer')
  confirmedAt!: number;
}

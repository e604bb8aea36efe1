import { Column, Entity, PrimaryColumn } from 'typeorm';

/** The volume of this host: one row, from the moment it was made. */
@Entity('volume')
export class VolumeRow {
  /** Always 1. */
  @PrimaryColumn('integer')
  id!: number;

  /** As its storage driver tells it. */
  @Column('text')
  identity!: string;

  @Column('integer')
  notedAt!: number;
}

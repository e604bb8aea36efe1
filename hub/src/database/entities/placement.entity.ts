import type { PlacementView } from '@rookery/api';
import { Column, Entity, PrimaryColumn } from 'typeorm';
import { asNumber } from './columns.js';

@Entity('placement_decisions')
export class PlacementDecision {
  @PrimaryColumn('uuid') id!: string;
  @Column('uuid') projectId!: string;
  @Column('uuid', { nullable: true }) chosenHostId!: string | null;
  /** The best. */
  @Column('jsonb') candidates!: PlacementView['candidates'];
  /** The rest, counted. */
  @Column('jsonb') others!: PlacementView['others'];
  @Column('timestamptz', { default: () => 'now()' }) createdAt!: Date;
}

/** Room promised to an operation that the host's own figures do not show yet. */
@Entity('placement_reservations')
export class PlacementReservation {
  @PrimaryColumn('uuid') operationId!: string;
  @PrimaryColumn('uuid') hostId!: string;
  /** Null in rows of earlier releases whose operation names no project. */
  @Column('uuid', { nullable: true }) projectId!: string | null;
  @Column('bigint', { transformer: asNumber }) diskBytes!: number;
  @Column('bigint', { transformer: asNumber }) memoryBytes!: number;
  /** The project's quota at this host while the operation is under way. */
  @Column('bigint', { transformer: asNumber }) promisedDiskBytes!: number;
  @Column('bigint', { transformer: asNumber }) promisedMemoryBytes!: number;
  @Column('timestamptz', { default: () => 'now()' }) createdAt!: Date;
}

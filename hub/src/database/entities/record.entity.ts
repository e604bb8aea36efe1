import type { BackupRecord } from '@rookery/fleet/contract';
import { Column, Entity, PrimaryColumn, PrimaryGeneratedColumn } from 'typeorm';
import { asNumber } from './columns.js';

/** Index of what the repositories hold; rows outlive their project. */
@Entity('backups')
export class Backup {
  @PrimaryColumn('text') id!: string;
  @PrimaryColumn('uuid') projectId!: string;
  @Column('uuid', { nullable: true }) hostId!: string | null;
  @Column('text') repository!: string;
  @Column('text') driver!: BackupRecord['driver'];
  @Column('bigint', { transformer: asNumber }) bytes!: number;
  @Column('bigint', { transformer: asNumber }) files!: number;
  @Column('bigint', { transformer: asNumber }) bytesAdded!: number;
  @Column('bigint', { transformer: asNumber }) durationMs!: number;
  @Column('jsonb') tags!: string[];
  @Column('timestamptz') createdAt!: Date;
}

/** Metering: what one project used in one hour. */
@Entity('usage_records')
export class UsageRecord {
  @PrimaryColumn('uuid') projectId!: string;
  @PrimaryColumn('timestamptz') hour!: Date;
  @Column('double precision') cpuSeconds!: number;
  @Column('bigint', { transformer: asNumber }) memoryByteSeconds!: number;
  @Column('bigint', { transformer: asNumber }) diskBytes!: number;
  @Column('bigint', { transformer: asNumber }) egressBytes!: number;
}

/**
 * Append-only (a trigger holds it). Each hub process (`writer`) has one hash chain, sealed by one
 * worker: `hash` covers the row and the hash before it, so that a row cannot be changed or dropped
 * unseen. The last three are null until sealed.
 */
@Entity('audit_log')
export class AuditRow {
  @PrimaryGeneratedColumn('increment', { type: 'bigint' }) id!: string;
  @Column('uuid') writer!: string;
  @Column('bigint', { nullable: true, transformer: asNumber }) sequence!: number | null;
  @Column('timestamptz') at!: Date;
  @Column('text') actor!: string;
  @Column('text') action!: string;
  @Column('text') subject!: string;
  @Column('jsonb') details!: Record<string, unknown>;
  @Column('bytea', { nullable: true }) previousHash!: Buffer | null;
  @Column('bytea', { nullable: true }) hash!: Buffer | null;
}

/** Ed25519 keys that sign access tokens. Rotation keeps the one before until its tokens are dead. */
@Entity('signing_keys')
export class SigningKey {
  @PrimaryColumn('text') kid!: string;
  @Column('text') privateKeyPem!: string;
  @Column('jsonb') publicJwk!: Record<string, string>;
  @Column('timestamptz', { default: () => 'now()' }) createdAt!: Date;
  @Column('timestamptz', { nullable: true }) retiredAt!: Date | null;
}

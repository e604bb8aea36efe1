import type { VerificationKey } from '@rookery/core/contract';
import { Column, Entity, PrimaryColumn } from 'typeorm';

/** This host as the hub knows it: one row, from the moment it has joined. */
@Entity('host')
export class HostRow {
  /** Always 1. */
  @PrimaryColumn('integer')
  id!: number;

  @Column('text')
  hostId!: string;

  @Column('text')
  hubUrl!: string;

  /** Kept for the time when the hub is away. */
  @Column('simple-json')
  verificationKeys!: VerificationKey[];

  @Column('integer')
  heartbeatEveryMs!: number;
}

/** A public key of this host; the private ones are files. */
@Entity('keys')
export class KeyRow {
  @PrimaryColumn('text')
  purpose!: 'identity' | 'transfer' | 'ingress';

  @Column('text')
  publicKey!: string;
}

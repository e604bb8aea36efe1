import type { HostCapabilities, HostCapacity } from '@rookery/fleet/contract';
import type { HostTrouble } from '@rookery/api';
import { Column, Entity, PrimaryColumn } from 'typeorm';

@Entity('project_hosts')
export class ProjectHost {
  @PrimaryColumn('uuid') id!: string;
  @Column('text') name!: string;
  @Column('text') region!: string;
  @Column('text') publicUrl!: string;
  @Column('text') internalUrl!: string;
  @Column('jsonb') sshEndpoint!: { host: string; port: number };
  @Column('jsonb', { nullable: true }) tunnel!: Record<string, unknown> | null;
  /** What a heartbeat owns: version, capabilities, capacity, images, lastSeen, status. */
  @Column('text') status!: 'active' | 'removed';
  @Column('text') version!: string;
  @Column('jsonb') capabilities!: HostCapabilities;
  @Column('jsonb') capacity!: HostCapacity;
  @Column('jsonb') images!: string[];
  @Column('timestamptz', { nullable: true }) lastSeen!: Date | null;
  /** Why it cannot serve, by its own word. */
  @Column('jsonb', { nullable: true }) trouble!: HostTrouble | null;
  /** Copies of projects that lie there and are not its own, those to be kept left out. */
  @Column('integer', { default: 0 }) copies!: number;
  /** When its backup repository was last compared with the index. */
  @Column('timestamptz', { nullable: true }) backupsSweptAt!: Date | null;
  /** What an operator owns. */
  @Column('boolean') schedulable!: boolean;
  @Column('text') trust!: 'trusted' | 'untrusted';
  @Column('timestamptz', { default: () => 'now()' }) createdAt!: Date;
}

@Entity('host_keys')
export class HostKey {
  @PrimaryColumn('uuid') id!: string;
  @Column('uuid') hostId!: string;
  @Column('text') purpose!: 'ingress' | 'transfer' | 'identity';
  @Column('text') publicKey!: string;
  @Column('timestamptz', { nullable: true }) notAfter!: Date | null;
  @Column('timestamptz', { nullable: true }) retiredAt!: Date | null;
  @Column('timestamptz', { default: () => 'now()' }) createdAt!: Date;
}

@Entity('join_tokens')
export class JoinToken {
  @PrimaryColumn('bytea') tokenHash!: Buffer;
  @Column('uuid') createdBy!: string;
  @Column('timestamptz') expiresAt!: Date;
  @Column('timestamptz', { nullable: true }) usedAt!: Date | null;
  @Column('uuid', { nullable: true }) hostId!: string | null;
}

import { Column, Entity, PrimaryColumn } from 'typeorm';

@Entity('accounts')
export class Account {
  @PrimaryColumn('uuid') id!: string;
  /** Lower case; unique. */
  @Column('text') email!: string;
  @Column('text') name!: string;
  @Column('boolean') admin!: boolean;
  @Column('timestamptz', { default: () => 'now()' }) createdAt!: Date;
  /** Since when nothing that the account shows is believed. */
  @Column('timestamptz', { nullable: true }) blockedAt!: Date | null;
}

/** Only the SHA-256 of a key is kept: keys are 256 random bits, so a slow hash would add nothing. */
@Entity('api_keys')
export class ApiKey {
  @PrimaryColumn('uuid') id!: string;
  @Column('uuid') accountId!: string;
  @Column('text') name!: string;
  @Column('bytea') tokenHash!: Buffer;
  @Column('timestamptz', { default: () => 'now()' }) createdAt!: Date;
  @Column('timestamptz', { nullable: true }) lastUsedAt!: Date | null;
  @Column('timestamptz', { nullable: true }) expiresAt!: Date | null;
}

/** A browser's session; the cookie holds the secret, the table its hash. */
@Entity('sessions')
export class Session {
  @PrimaryColumn('uuid') id!: string;
  @Column('uuid') accountId!: string;
  @Column('bytea') tokenHash!: Buffer;
  @Column('timestamptz', { default: () => 'now()' }) createdAt!: Date;
  @Column('timestamptz') expiresAt!: Date;
}

@Entity('login_tickets')
export class LoginTicket {
  @PrimaryColumn('bytea') tokenHash!: Buffer;
  @Column('uuid') accountId!: string;
  @Column('text') next!: string;
  @Column('timestamptz') expiresAt!: Date;
}

@Entity('ssh_keys')
export class SshKey {
  @PrimaryColumn('uuid') id!: string;
  @Column('uuid') accountId!: string;
  @Column('text') name!: string;
  @Column('text') publicKey!: string;
  @Column('timestamptz', { default: () => 'now()' }) createdAt!: Date;
}

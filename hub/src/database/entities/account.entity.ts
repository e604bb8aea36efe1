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
  /** When a worker saw that it is over, and ended what was opened with it. */
  @Column('timestamptz', { nullable: true }) expiryToldAt!: Date | null;
}

/**
 * A browser's session; the cookie holds the secret, the table its hash. It lives no longer than the
 * API key that it was made with.
 */
@Entity('sessions')
export class Session {
  @PrimaryColumn('uuid') id!: string;
  @Column('uuid') accountId!: string;
  @Column('bytea') tokenHash!: Buffer;
  @Column('uuid') keyId!: string;
  @Column('timestamptz', { default: () => 'now()' }) createdAt!: Date;
  @Column('timestamptz', { nullable: true }) lastUsedAt!: Date | null;
  @Column('timestamptz') expiresAt!: Date;
  /** Of the request that signed in. */
  @Column('text') userAgent!: string;
  @Column('text') address!: string;
}

/** A one-time link; it ends with the key and the session that it was made with. */
@Entity('login_tickets')
export class LoginTicket {
  @PrimaryColumn('bytea') tokenHash!: Buffer;
  @Column('uuid') accountId!: string;
  @Column('uuid') keyId!: string;
  @Column('uuid', { nullable: true }) sessionId!: string | null;
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

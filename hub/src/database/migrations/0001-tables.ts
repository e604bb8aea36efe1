import type { MigrationInterface, QueryRunner } from 'typeorm';

/** All tables of the hub. Migrations are never edited once released; the next change is 0002. */
export class Tables1700000000001 implements MigrationInterface {
  readonly name = 'Tables1700000000001';

  async up(runner: QueryRunner): Promise<void> {
    for (const part of [accounts, hosts, projects, operations, records]) await runner.query(part);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query(`
      DROP TABLE usage_records, audit_log, signing_keys, backups, placement_reservations,
        placement_decisions, project_moves, operations, idempotency_records, collaborators,
        projects, join_tokens, host_keys, project_hosts, login_tickets, sessions, ssh_keys,
        api_keys, accounts`);
  }
}

const accounts = `
CREATE TABLE accounts (
  id uuid PRIMARY KEY,
  email text NOT NULL UNIQUE CHECK (email = lower(email)),
  name text NOT NULL,
  admin boolean NOT NULL DEFAULT false,
  created_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE api_keys (
  id uuid PRIMARY KEY,
  account_id uuid NOT NULL REFERENCES accounts ON DELETE CASCADE,
  name text NOT NULL,
  token_hash bytea NOT NULL UNIQUE,
  created_at timestamptz NOT NULL DEFAULT now(),
  last_used_at timestamptz,
  expires_at timestamptz
);
CREATE INDEX api_keys_account ON api_keys (account_id, created_at);
CREATE TABLE sessions (
  id uuid PRIMARY KEY,
  account_id uuid NOT NULL REFERENCES accounts ON DELETE CASCADE,
  token_hash bytea NOT NULL UNIQUE,
  created_at timestamptz NOT NULL DEFAULT now(),
  expires_at timestamptz NOT NULL
);
CREATE TABLE login_tickets (
  token_hash bytea PRIMARY KEY,
  account_id uuid NOT NULL REFERENCES accounts ON DELETE CASCADE,
  next text NOT NULL,
  expires_at timestamptz NOT NULL
);
CREATE TABLE ssh_keys (
  id uuid PRIMARY KEY,
  account_id uuid NOT NULL REFERENCES accounts ON DELETE CASCADE,
  name text NOT NULL,
  public_key text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE idempotency_records (
  account_id uuid NOT NULL REFERENCES accounts ON DELETE CASCADE,
  key text NOT NULL,
  route text NOT NULL,
  request_hash bytea NOT NULL,
  status integer,
  response bytea,
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (account_id, key, route)
);
CREATE INDEX idempotency_records_age ON idempotency_records (created_at);`;

const hosts = `
CREATE TABLE project_hosts (
  id uuid PRIMARY KEY,
  name text NOT NULL,
  region text NOT NULL,
  public_url text NOT NULL,
  internal_url text NOT NULL,
  ssh_endpoint jsonb NOT NULL,
  tunnel jsonb,
  status text NOT NULL CHECK (status IN ('active', 'removed')),
  version text NOT NULL,
  capabilities jsonb NOT NULL,
  capacity jsonb NOT NULL,
  images jsonb NOT NULL DEFAULT '[]',
  last_seen timestamptz,
  schedulable boolean NOT NULL DEFAULT true,
  trust text NOT NULL DEFAULT 'trusted' CHECK (trust IN ('trusted', 'untrusted')),
  created_at timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX project_hosts_name ON project_hosts (lower(name)) WHERE status = 'active';
CREATE TABLE host_keys (
  id uuid PRIMARY KEY,
  host_id uuid NOT NULL REFERENCES project_hosts ON DELETE CASCADE,
  purpose text NOT NULL CHECK (purpose IN ('ingress', 'transfer', 'identity')),
  public_key text NOT NULL,
  not_after timestamptz,
  retired_at timestamptz,
  created_at timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX host_keys_identity ON host_keys (public_key)
  WHERE purpose = 'identity' AND retired_at IS NULL;
CREATE INDEX host_keys_host ON host_keys (host_id, purpose);
CREATE TABLE join_tokens (
  token_hash bytea PRIMARY KEY,
  created_by uuid NOT NULL REFERENCES accounts,
  expires_at timestamptz NOT NULL,
  used_at timestamptz,
  host_id uuid REFERENCES project_hosts
);`;

const projects = `
CREATE TABLE projects (
  id uuid PRIMARY KEY,
  title text NOT NULL,
  host_id uuid REFERENCES project_hosts,
  host jsonb,
  placement_generation integer NOT NULL CHECK (placement_generation >= 0),
  rootfs_image text,
  compute_image text,
  image_digest text,
  run_quota jsonb NOT NULL,
  public_ports jsonb NOT NULL DEFAULT '[]',
  state text NOT NULL CHECK (state IN
    ('created', 'starting', 'running', 'stopping', 'stopped', 'archived', 'error')),
  desired_state text NOT NULL CHECK (desired_state IN ('running', 'stopped', 'archived', 'deleted')),
  provisioned boolean NOT NULL DEFAULT false,
  move_status jsonb,
  error jsonb,
  disk_used_bytes bigint,
  state_set_at timestamptz,
  last_backup_at timestamptz,
  last_active_at timestamptz,
  created_at timestamptz NOT NULL DEFAULT now(),
  deleted_at timestamptz
);
CREATE INDEX projects_host ON projects (host_id) WHERE deleted_at IS NULL;
CREATE INDEX projects_age ON projects (created_at, id) WHERE deleted_at IS NULL;
CREATE TABLE collaborators (
  project_id uuid NOT NULL REFERENCES projects ON DELETE CASCADE,
  account_id uuid NOT NULL REFERENCES accounts ON DELETE CASCADE,
  role text NOT NULL CHECK (role IN ('owner', 'editor', 'viewer')),
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (project_id, account_id)
);
CREATE INDEX collaborators_account ON collaborators (account_id);`;

const operations = `
CREATE TABLE operations (
  id uuid PRIMARY KEY,
  kind text NOT NULL,
  project_id uuid REFERENCES projects,
  host_id uuid,
  state text NOT NULL CHECK (state IN
    ('pending', 'running', 'undoing', 'succeeded', 'failed', 'canceled', 'stuck')),
  step text,
  progress jsonb,
  attempt integer NOT NULL DEFAULT 0,
  lease_owner uuid,
  lease_expires_at timestamptz,
  run_at timestamptz NOT NULL DEFAULT now(),
  cancel_requested boolean NOT NULL DEFAULT false,
  lane text CHECK (lane IN ('lifecycle', 'backup')),
  idempotency_key text,
  parent_id uuid REFERENCES operations,
  created_by uuid REFERENCES accounts,
  input jsonb NOT NULL,
  saga jsonb,
  error jsonb,
  result jsonb,
  created_at timestamptz NOT NULL DEFAULT now(),
  started_at timestamptz,
  ended_at timestamptz
);
-- One at a time in each lane of a project. A stuck operation keeps its lane: nobody else may touch
-- what is half way.
CREATE UNIQUE INDEX operations_one_a_lane ON operations (project_id, lane) WHERE ended_at IS NULL;
CREATE INDEX operations_claim ON operations (run_at) WHERE ended_at IS NULL;
CREATE INDEX operations_idempotency ON operations (created_by, idempotency_key)
  WHERE idempotency_key IS NOT NULL;
CREATE INDEX operations_age ON operations (created_at, id);
CREATE INDEX operations_parent ON operations (parent_id) WHERE parent_id IS NOT NULL;
CREATE TABLE project_moves (
  id uuid PRIMARY KEY,
  operation_id uuid NOT NULL UNIQUE REFERENCES operations,
  project_id uuid NOT NULL REFERENCES projects,
  reason text NOT NULL CHECK (reason IN ('move', 'restore')),
  state text NOT NULL CHECK (state IN ('queued', 'preparing', 'copying', 'cutover', 'verifying',
    'committing', 'activating', 'cleaning', 'done', 'undoing', 'failed', 'canceled')),
  stuck boolean NOT NULL DEFAULT false,
  from_host_id uuid REFERENCES project_hosts,
  to_host_id uuid NOT NULL REFERENCES project_hosts,
  from_generation integer NOT NULL,
  details jsonb NOT NULL DEFAULT '{}',
  new_generation integer,
  created_at timestamptz NOT NULL DEFAULT now(),
  committed_at timestamptz,
  ended_at timestamptz
);
CREATE UNIQUE INDEX project_moves_one_active ON project_moves (project_id) WHERE ended_at IS NULL;
CREATE TABLE placement_decisions (
  id uuid PRIMARY KEY,
  project_id uuid NOT NULL,
  chosen_host_id uuid,
  candidates jsonb NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX placement_decisions_project ON placement_decisions (project_id, created_at);
CREATE TABLE placement_reservations (
  operation_id uuid NOT NULL REFERENCES operations ON DELETE CASCADE,
  host_id uuid NOT NULL REFERENCES project_hosts ON DELETE CASCADE,
  disk_bytes bigint NOT NULL,
  memory_bytes bigint NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (operation_id, host_id)
);
CREATE INDEX placement_reservations_host ON placement_reservations (host_id);`;

const records = `
CREATE TABLE backups (
  id text NOT NULL,
  project_id uuid NOT NULL,
  host_id uuid,
  repository text NOT NULL,
  driver text NOT NULL,
  bytes bigint NOT NULL,
  files bigint NOT NULL,
  bytes_added bigint NOT NULL,
  duration_ms bigint NOT NULL,
  tags jsonb NOT NULL DEFAULT '[]',
  created_at timestamptz NOT NULL,
  PRIMARY KEY (id, project_id)
);
CREATE INDEX backups_project ON backups (project_id, created_at);
CREATE TABLE usage_records (
  project_id uuid NOT NULL,
  hour timestamptz NOT NULL,
  cpu_seconds double precision NOT NULL DEFAULT 0,
  memory_byte_seconds bigint NOT NULL DEFAULT 0,
  disk_bytes bigint NOT NULL DEFAULT 0,
  egress_bytes bigint NOT NULL DEFAULT 0,
  PRIMARY KEY (project_id, hour)
);
CREATE TABLE audit_log (
  id bigserial PRIMARY KEY,
  writer uuid NOT NULL,
  sequence bigint,
  at timestamptz NOT NULL,
  actor text NOT NULL,
  action text NOT NULL,
  subject text NOT NULL,
  details jsonb NOT NULL DEFAULT '{}',
  previous_hash bytea,
  hash bytea,
  UNIQUE (writer, sequence)
);
CREATE INDEX audit_log_subject ON audit_log (subject, id);
CREATE INDEX audit_log_unsealed ON audit_log (id) WHERE hash IS NULL;
CREATE FUNCTION audit_log_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
  BEGIN
    IF TG_OP = 'UPDATE' AND OLD.hash IS NULL
      AND (NEW.id, NEW.writer, NEW.at, NEW.actor, NEW.action, NEW.subject, NEW.details)
        = (OLD.id, OLD.writer, OLD.at, OLD.actor, OLD.action, OLD.subject, OLD.details)
    THEN RETURN NEW; END IF;
    RAISE EXCEPTION 'audit_log is append-only';
  END $$;
CREATE TRIGGER audit_log_append_only BEFORE UPDATE OR DELETE ON audit_log
  FOR EACH ROW EXECUTE FUNCTION audit_log_is_append_only();
CREATE TABLE signing_keys (
  kid text PRIMARY KEY,
  private_key_pem text NOT NULL,
  public_jwk jsonb NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  retired_at timestamptz
);`;

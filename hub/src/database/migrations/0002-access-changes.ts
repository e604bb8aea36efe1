import type { MigrationInterface, QueryRunner } from 'typeorm';

export class AccessChanges1700000000002 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    for (const part of [log, sources]) await runner.query(part);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query(`
      DROP FUNCTION access_of_collaborator, access_of_project, access_of_credential,
        access_of_account, access_of_host CASCADE;
      DROP FUNCTION access_changed(text, uuid, uuid, uuid, uuid);
      DROP TABLE access_changes, access_revision;
      ALTER TABLE accounts DROP COLUMN blocked_at`);
  }
}

/**
 * Who reads revision n knows that all before it are there: the counter's row is locked from the
 * change to its commit. That costs little, because the triggers below are deferred: they run within
 * COMMIT, after every other lock was taken, so they can neither wait long nor deadlock.
 */
const log = `
ALTER TABLE accounts ADD COLUMN blocked_at timestamptz;
CREATE TABLE access_revision (
  only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
  revision bigint NOT NULL DEFAULT 0
);
INSERT INTO access_revision DEFAULT VALUES;
CREATE TABLE access_changes (
  revision bigint PRIMARY KEY,
  kind text NOT NULL CHECK (kind IN ('rights', 'credentials', 'host')),
  project_id uuid,
  account_id uuid,
  credential_id uuid,
  host_id uuid,
  at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX access_changes_age ON access_changes (at);
CREATE FUNCTION access_changed(kind text, project uuid, account uuid, credential uuid, host uuid)
  RETURNS void LANGUAGE plpgsql AS $$
  DECLARE next bigint;
  BEGIN
    UPDATE access_revision SET revision = revision + 1 RETURNING revision INTO next;
    INSERT INTO access_changes (revision, kind, project_id, account_id, credential_id, host_id)
      VALUES (next, kind, project, account, credential, host);
    PERFORM pg_notify('rookery_access', '');
  END $$;`;

const sources = `
CREATE FUNCTION access_of_collaborator() RETURNS trigger LANGUAGE plpgsql AS $$
  DECLARE r collaborators := CASE WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END;
  BEGIN
    PERFORM access_changed('rights', r.project_id, r.account_id, NULL, NULL);
    RETURN NULL;
  END $$;
CREATE CONSTRAINT TRIGGER access AFTER INSERT OR UPDATE OF role OR DELETE ON collaborators
  DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION access_of_collaborator();

CREATE FUNCTION access_of_project() RETURNS trigger LANGUAGE plpgsql AS $$
  BEGIN
    PERFORM access_changed('rights', NEW.id, NULL, NULL, NULL);
    RETURN NULL;
  END $$;
CREATE CONSTRAINT TRIGGER access AFTER UPDATE OF deleted_at, public_ports ON projects
  DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
  WHEN ((OLD.deleted_at, OLD.public_ports) IS DISTINCT FROM (NEW.deleted_at, NEW.public_ports))
  EXECUTE FUNCTION access_of_project();

CREATE FUNCTION access_of_credential() RETURNS trigger LANGUAGE plpgsql AS $$
  BEGIN
    PERFORM access_changed('credentials', NULL, OLD.account_id, OLD.id, NULL);
    RETURN NULL;
  END $$;
CREATE CONSTRAINT TRIGGER access AFTER DELETE ON api_keys
  DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
  WHEN (OLD.expires_at IS NULL OR OLD.expires_at > now())
  EXECUTE FUNCTION access_of_credential();
CREATE CONSTRAINT TRIGGER access AFTER DELETE ON sessions
  DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (OLD.expires_at > now())
  EXECUTE FUNCTION access_of_credential();

CREATE FUNCTION access_of_account() RETURNS trigger LANGUAGE plpgsql AS $$
  BEGIN
    PERFORM access_changed('credentials', NULL, OLD.id, NULL, NULL);
    RETURN NULL;
  END $$;
CREATE CONSTRAINT TRIGGER access_blocked AFTER UPDATE OF blocked_at ON accounts
  DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (NEW.blocked_at IS NOT NULL)
  EXECUTE FUNCTION access_of_account();
CREATE CONSTRAINT TRIGGER access_deleted AFTER DELETE ON accounts
  DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION access_of_account();

CREATE FUNCTION access_of_host() RETURNS trigger LANGUAGE plpgsql AS $$
  BEGIN
    PERFORM access_changed('host', NULL, NULL, NULL, NEW.id);
    RETURN NULL;
  END $$;
CREATE CONSTRAINT TRIGGER access AFTER UPDATE OF status ON project_hosts
  DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
  WHEN (OLD.status <> 'removed' AND NEW.status = 'removed')
  EXECUTE FUNCTION access_of_host();`;

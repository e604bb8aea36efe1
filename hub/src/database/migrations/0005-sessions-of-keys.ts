import type { MigrationInterface, QueryRunner } from 'typeorm';

/**
 * A session and a sign-in link belong to the API key that they were made with: they end with it.
 * What was made before does not say with which, so everybody signs in once more.
 */
export class SessionsOfKeys1700000000005 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    for (const part of [tables, triggers]) await runner.query(part);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query(`
      DROP TRIGGER access_expired ON api_keys;
      DROP TRIGGER access ON api_keys;
      CREATE CONSTRAINT TRIGGER access AFTER DELETE ON api_keys
        DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
        WHEN (OLD.expires_at IS NULL OR OLD.expires_at > now())
        EXECUTE FUNCTION access_of_credential();
      DROP TRIGGER access ON sessions;
      CREATE CONSTRAINT TRIGGER access AFTER DELETE ON sessions
        DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (OLD.expires_at > now())
        EXECUTE FUNCTION access_of_credential();
      ALTER TABLE api_keys DROP COLUMN expiry_told_at;
      DROP INDEX sessions_expiry, sessions_account, sessions_key, login_tickets_account;
      ALTER TABLE sessions DROP COLUMN key_id, DROP COLUMN last_used_at, DROP COLUMN user_agent,
        DROP COLUMN address;
      ALTER TABLE login_tickets DROP COLUMN key_id, DROP COLUMN session_id`);
  }
}

const tables = `
DELETE FROM sessions;
DELETE FROM login_tickets;
-- Deferred triggers of the deletions must have run before the tables can change.
SET CONSTRAINTS ALL IMMEDIATE;
ALTER TABLE sessions
  ADD COLUMN key_id uuid NOT NULL REFERENCES api_keys ON DELETE CASCADE,
  ADD COLUMN last_used_at timestamptz,
  ADD COLUMN user_agent text NOT NULL DEFAULT '',
  ADD COLUMN address text NOT NULL DEFAULT '';
CREATE INDEX sessions_account ON sessions (account_id, created_at);
CREATE INDEX sessions_key ON sessions (key_id);
CREATE INDEX sessions_expiry ON sessions (expires_at);
ALTER TABLE login_tickets
  ADD COLUMN key_id uuid NOT NULL REFERENCES api_keys ON DELETE CASCADE,
  ADD COLUMN session_id uuid REFERENCES sessions ON DELETE CASCADE;
CREATE INDEX login_tickets_account ON login_tickets (account_id);
CREATE INDEX login_tickets_key ON login_tickets (key_id);
CREATE INDEX login_tickets_session ON login_tickets (session_id);
ALTER TABLE api_keys ADD COLUMN expiry_told_at timestamptz;
UPDATE api_keys SET expiry_told_at = expires_at WHERE expires_at <= now();
CREATE INDEX api_keys_expiry ON api_keys (expires_at)
  WHERE expires_at IS NOT NULL AND expiry_told_at IS NULL;`;

/** What expires is swept by a worker: the sweep is the change that is told. */
const triggers = `
DROP TRIGGER access ON sessions;
CREATE CONSTRAINT TRIGGER access AFTER DELETE ON sessions
  DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION access_of_credential();
CREATE CONSTRAINT TRIGGER access_expired AFTER UPDATE OF expiry_told_at ON api_keys
  DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
  WHEN (OLD.expiry_told_at IS NULL AND NEW.expiry_told_at IS NOT NULL)
  EXECUTE FUNCTION access_of_credential();
DROP TRIGGER access ON api_keys;
CREATE CONSTRAINT TRIGGER access AFTER DELETE ON api_keys
  DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (OLD.expiry_told_at IS NULL)
  EXECUTE FUNCTION access_of_credential();`;

import type { MigrationInterface, QueryRunner } from 'typeorm';

export class Tables1700000000001 implements MigrationInterface {
  readonly name = 'Tables1700000000001';

  async up(runner: QueryRunner): Promise<void> {
    for (const statement of statements) await runner.query(statement);
  }

  async down(runner: QueryRunner): Promise<void> {
    const tables = ['incoming_moves', 'outgoing_moves', 'jobs', 'moved_projects', 'projects'];
    for (const table of [...tables, 'keys', 'host']) await runner.query(`DROP TABLE "${table}"`);
  }
}

const statements = [
  `CREATE TABLE "host" (
    "id" integer PRIMARY KEY CHECK ("id" = 1),
    "host_id" text NOT NULL,
    "hub_url" text NOT NULL,
    "verification_keys" text NOT NULL,
    "heartbeat_every_ms" integer NOT NULL
  ) STRICT`,
  `CREATE TABLE "keys" (
    "purpose" text PRIMARY KEY CHECK ("purpose" IN ('identity', 'transfer', 'ingress')),
    "public_key" text NOT NULL
  ) STRICT`,
  `CREATE TABLE "projects" (
    "id" text PRIMARY KEY,
    "generation" integer NOT NULL,
    "spec" text NOT NULL,
    "desired_state" text NOT NULL CHECK ("desired_state" IN ('running', 'stopped')),
    "state" text NOT NULL,
    "image_ref" text,
    "image_digest" text,
    "address" text,
    "error" text,
    "fenced_by" text,
    "restoring_by" text,
    "ingress_state" text NOT NULL DEFAULT 'open'
      CHECK ("ingress_state" IN ('open', 'held', 'moved')),
    "operation_id" text,
    "attempt" integer NOT NULL DEFAULT 0,
    "updated_at" integer NOT NULL
  ) STRICT`,
  `CREATE TABLE "moved_projects" (
    "id" text PRIMARY KEY,
    "new_url" text,
    "moved_at" integer NOT NULL
  ) STRICT`,
  `CREATE TABLE "jobs" (
    "operation_id" text PRIMARY KEY,
    "project_id" text NOT NULL,
    "state" text NOT NULL,
    "document" text NOT NULL
  ) STRICT`,
  `CREATE INDEX "jobs_active" ON "jobs" ("state") WHERE "state" IN ('pending', 'running')`,
  `CREATE TABLE "outgoing_moves" (
    "move_id" text PRIMARY KEY,
    "state" text NOT NULL,
    "document" text NOT NULL
  ) STRICT`,
  `CREATE TABLE "incoming_moves" (
    "move_id" text PRIMARY KEY,
    "state" text NOT NULL,
    "document" text NOT NULL
  ) STRICT`,
];

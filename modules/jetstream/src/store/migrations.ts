import type { Database } from 'better-sqlite3';
import { StoreCorruptError } from './store-errors.js';

/**
 * Steps from one version of the file to the next; the file's `user_version` counts them. Never
 * change one that was released.
 *
 * Each stream has two more tables, see {@link createStreamTables}.
 */
const migrations: readonly string[] = [
  `
  CREATE TABLE stream (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    config TEXT NOT NULL,
    created_ns INTEGER NOT NULL
  );
  -- Apart from the configuration: one small row is written with every commit.
  CREATE TABLE stream_state (
    stream INTEGER PRIMARY KEY REFERENCES stream (id) ON DELETE CASCADE,
    first_seq INTEGER NOT NULL,
    last_seq INTEGER NOT NULL,
    messages INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    last_time_ns INTEGER NOT NULL
  );
  CREATE TABLE consumer (
    stream INTEGER NOT NULL REFERENCES stream (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    config TEXT NOT NULL,
    created_ns INTEGER NOT NULL,
    state BLOB,
    PRIMARY KEY (stream, name)
  ) WITHOUT ROWID;
  `,
];

/** @throws StoreCorruptError for a file of a newer version than this one knows */
export function migrate(database: Database): void {
  const version = database.pragma('user_version', { simple: true }) as number;
  if (version === migrations.length) return;
  if (version > migrations.length) {
    throw new StoreCorruptError(`the file has version ${version}, newer than this program`);
  }
  database
    .transaction(() => {
      for (const sql of migrations.slice(version)) database.exec(sql);
      database.pragma(`user_version = ${migrations.length}`);
    })
    .immediate();
}

/**
 * Messages lie in a table of their own stream, since its sequence is then the row's number: that
 * takes half the time of one table for all. Subjects are in a table of their own, so that the
 * index has a small number instead of a text, and the newest message of each is found at once.
 * `first_seq` 0 says: look it up.
 */
export function createStreamTables(database: Database, id: number): void {
  database.exec(`
    CREATE TABLE message_${id} (
      seq INTEGER PRIMARY KEY,
      subject INTEGER NOT NULL,
      expires_ms INTEGER,
      data BLOB NOT NULL
    );
    CREATE INDEX message_${id}_subject ON message_${id} (subject);
    CREATE INDEX message_${id}_expires ON message_${id} (expires_ms) WHERE expires_ms IS NOT NULL;
    CREATE TABLE subject_${id} (
      id INTEGER PRIMARY KEY,
      subject TEXT NOT NULL UNIQUE,
      messages INTEGER NOT NULL,
      first_seq INTEGER NOT NULL,
      last_seq INTEGER NOT NULL
    );
  `);
}

export function dropStreamTables(database: Database, id: number): void {
  database.exec(`DROP TABLE message_${id}; DROP TABLE subject_${id};`);
}

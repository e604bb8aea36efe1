import type { Database as SqliteDatabase } from 'better-sqlite3';
import type { DataSource, EntityTarget, ObjectLiteral } from 'typeorm';
import { CoreErrors } from '@rookery/core';
import { HostErrors } from '../host.errors.js';
import { TableStatements, type Span, type Where } from './table-statements.js';

/** The rows of one state of the database. */
export interface Rows {
  /** In the order of the primary key. A list as a value means: any of these. */
  find<E extends ObjectLiteral>(table: EntityTarget<E>, where?: Where<E>): E[];
  findOne<E extends ObjectLiteral>(table: EntityTarget<E>, where: Where<E>): E | undefined;
  /** In the order of the span's column, which has an index. */
  findSpan<E extends ObjectLiteral>(table: EntityTarget<E>, span: Span<E>): E[];
}

/** The rows inside a transaction. */
export interface WritableRows extends Rows {
  /** Inserts a row, or replaces the one with its primary key. */
  put<E extends ObjectLiteral>(table: EntityTarget<E>, row: E): void;
  delete<E extends ObjectLiteral>(table: EntityTarget<E>, where: Where<E>): void;
}

/**
 * The host's database, and the only one who writes to it.
 *
 * A transaction is a function that runs from its beginning to its commit without an await: nothing
 * else of this process can come in between, so that no transaction is part of another one, reads see
 * what is committed and nothing else, and a commit that fails reaches exactly its caller. When
 * {@link write} returns, the change is on disk. Nobody outside this folder holds the connection
 * (dependency-cruiser's rule `host-database-has-one-owner`); the ingress reads by one of its own.
 */
export class HostDatabase implements Rows {
  private readonly statements: TableStatements;

  constructor(
    private readonly source: DataSource,
    private readonly connection: SqliteDatabase,
  ) {
    this.statements = new TableStatements(source, connection);
  }

  find<E extends ObjectLiteral>(table: EntityTarget<E>, where: Where<E> = {}): E[] {
    return this.statements.find(table, where);
  }

  findOne<E extends ObjectLiteral>(table: EntityTarget<E>, where: Where<E>): E | undefined {
    return this.find(table, where)[0];
  }

  findSpan<E extends ObjectLiteral>(table: EntityTarget<E>, span: Span<E>): E[] {
    return this.statements.findSpan(table, span);
  }

  /**
   * Does everything that the task does, or nothing of it. Tell others of a change after this.
   * @param task without an await; what it is given is of no use after its end
   * @throws what the task throws; HOST_DATABASE_FULL, HOST_DATABASE_BUSY, HOST_DATABASE_FAILED
   */
  write<T>(task: (rows: WritableRows) => T): T {
    if (this.connection.inTransaction) {
      // What an inner one confirmed would be lost with the outer one.
      throw CoreErrors.INTERNAL({ reason: 'a transaction of the host’s database in another one' });
    }
    const rows = new TransactionRows(this.statements);
    try {
      return this.connection.transaction(() => task(rows)).immediate();
    } catch (error) {
      throw codedFailure(error);
    } finally {
      rows.close();
    }
  }

  /** For tests and tools: one value of SQLite's own about this file. */
  pragma(name: string): unknown {
    return this.connection.pragma(name, { simple: true });
  }

  async close(): Promise<void> {
    await this.source.destroy();
  }
}

class TransactionRows implements WritableRows {
  private open = true;

  constructor(private readonly statements: TableStatements) {}

  find<E extends ObjectLiteral>(table: EntityTarget<E>, where: Where<E> = {}): E[] {
    return this.current.find(table, where);
  }

  findOne<E extends ObjectLiteral>(table: EntityTarget<E>, where: Where<E>): E | undefined {
    return this.find(table, where)[0];
  }

  findSpan<E extends ObjectLiteral>(table: EntityTarget<E>, span: Span<E>): E[] {
    return this.current.findSpan(table, span);
  }

  put<E extends ObjectLiteral>(table: EntityTarget<E>, row: E): void {
    this.current.put(table, row);
  }

  delete<E extends ObjectLiteral>(table: EntityTarget<E>, where: Where<E>): void {
    this.current.delete(table, where);
  }

  close(): void {
    this.open = false;
  }

  private get current(): TableStatements {
    if (this.open) return this.statements;
    throw CoreErrors.INTERNAL({ reason: 'a write after the end of its transaction' });
  }
}

/** What SQLite throws is told by its code: its class is the addon's own. */
function codedFailure(error: unknown): unknown {
  const { code, message } = (error ?? {}) as { code?: unknown; message?: string };
  if (typeof code !== 'string' || !code.startsWith('SQLITE_')) return error;
  const reason = message ?? code;
  if (code === 'SQLITE_FULL') return HostErrors.HOST_DATABASE_FULL({ reason }, { cause: error });
  if (code.startsWith('SQLITE_BUSY')) {
    return HostErrors.HOST_DATABASE_BUSY({ reason }, { cause: error });
  }
  return HostErrors.HOST_DATABASE_FAILED({ reason }, { cause: error });
}

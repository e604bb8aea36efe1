import type { Database as SqliteDatabase, Statement } from 'better-sqlite3';
import type { DataSource, EntityMetadata, EntityTarget, ObjectLiteral } from 'typeorm';

type Column = EntityMetadata['columns'][number];

/** Equal to a value, or to one of a list. */
export type Where<E> = { readonly [K in keyof E]?: E[K] | readonly E[K][] };

/** Some rows by a column; those without a value in it are none of them. */
export interface Span<E> {
  readonly by: keyof E & string;
  /** Where it begins, and what it does not reach. */
  readonly from?: number;
  readonly below?: number;
  /** The highest first; so many of them are passed over. */
  readonly highestFirst?: boolean;
  readonly skip?: number;
  readonly limit: number;
}

/**
 * The statements of tables, made from their entities. TypeORM runs its own through promises, one
 * query runner for all: transactions that overlap would run into each other. So it says what the
 * columns are and how values are kept, and SQLite is asked directly.
 */
export class TableStatements {
  private readonly prepared = new Map<string, Statement>();

  constructor(
    private readonly source: DataSource,
    private readonly connection: SqliteDatabase,
  ) {}

  find<E extends ObjectLiteral>(table: EntityTarget<E>, where: Where<E>): E[] {
    const metadata = this.source.getMetadata(table);
    const { sql, values } = this.condition(metadata, where);
    const order = metadata.primaryColumns.map(nameOf).join(', ');
    return this.select(metadata, `${sql} ORDER BY ${order}`, values);
  }

  findSpan<E extends ObjectLiteral>(table: EntityTarget<E>, span: Span<E>): E[] {
    const { by, from, below, highestFirst = false, skip = 0, limit } = span;
    const metadata = this.source.getMetadata(table);
    const column = nameOf(columnOf(metadata, by));
    return this.select(
      metadata,
      ` WHERE ${column} >= ? AND ${column} < ?
        ORDER BY ${column} ${highestFirst ? 'DESC' : 'ASC'} LIMIT ? OFFSET ?`,
      [from ?? Number.MIN_SAFE_INTEGER, below ?? Number.MAX_SAFE_INTEGER, limit, skip],
    );
  }

  put<E extends ObjectLiteral>(table: EntityTarget<E>, row: E): void {
    const metadata = this.source.getMetadata(table);
    const given = metadata.columns.filter((column) => row[column.propertyName] !== undefined);
    const keys = metadata.primaryColumns.map(nameOf).join(', ');
    const changed = given
      .filter((column) => !column.isPrimary)
      .map((column) => `${nameOf(column)} = excluded.${nameOf(column)}`);
    const then = changed.length > 0 ? `UPDATE SET ${changed.join(', ')}` : 'NOTHING';
    const names = given.map(nameOf).join(', ');
    const marks = given.map(() => '?').join(', ');
    this.statement(
      `INSERT INTO "${metadata.tableName}" (${names}) VALUES (${marks}) ` +
        `ON CONFLICT (${keys}) DO ${then}`,
    ).run(...given.map((column) => this.toRaw(column, row[column.propertyName])));
  }

  delete<E extends ObjectLiteral>(table: EntityTarget<E>, where: Where<E>): void {
    const metadata = this.source.getMetadata(table);
    const { sql, values } = this.condition(metadata, where);
    this.statement(`DELETE FROM "${metadata.tableName}"${sql}`).run(...values);
  }

  private select<E extends ObjectLiteral>(
    metadata: EntityMetadata,
    which: string,
    values: readonly unknown[],
  ): E[] {
    const columns = metadata.columns.map(nameOf).join(', ');
    const text = `SELECT ${columns} FROM "${metadata.tableName}"${which}`;
    const found = this.statement(text).all(...values) as Record<string, unknown>[];
    return found.map((raw) => this.fromRaw<E>(metadata, raw));
  }

  private condition<E extends ObjectLiteral>(metadata: EntityMetadata, where: Where<E>) {
    const parts: string[] = [];
    const values: unknown[] = [];
    for (const [property, wanted] of Object.entries(where)) {
      const column = columnOf(metadata, property);
      const any: readonly unknown[] = Array.isArray(wanted) ? wanted : [wanted];
      parts.push(`${nameOf(column)} IN (${any.map(() => '?').join(', ')})`);
      values.push(...any.map((value) => this.toRaw(column, value)));
    }
    return { sql: parts.length > 0 ? ` WHERE ${parts.join(' AND ')}` : '', values };
  }

  private toRaw(column: Column, value: unknown): unknown {
    return this.source.driver.preparePersistentValue(value, column) as unknown;
  }

  private fromRaw<E extends ObjectLiteral>(
    metadata: EntityMetadata,
    raw: Record<string, unknown>,
  ): E {
    const row: Record<string, unknown> = {};
    for (const column of metadata.columns) {
      const value = raw[column.databaseName];
      row[column.propertyName] = this.source.driver.prepareHydratedValue(value, column) as unknown;
    }
    return row as E;
  }

  /** One a shape of statement: as many as there are calls in this program's text. */
  private statement(sql: string): Statement {
    const known = this.prepared.get(sql);
    if (known) return known;
    const made = this.connection.prepare(sql);
    this.prepared.set(sql, made);
    return made;
  }
}

function columnOf(metadata: EntityMetadata, property: string): Column {
  const column = metadata.findColumnWithPropertyName(property);
  if (!column) throw new Error(`${metadata.tableName} has no column ${property}`);
  return column;
}

const nameOf = (column: Column): string => `"${column.databaseName}"`;

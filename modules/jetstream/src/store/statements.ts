import type { Database, Statement } from 'better-sqlite3';

type Mode = 'run' | 'value' | 'row' | 'big';

/**
 * Prepared statements by their text, made when they are first needed. Before each, what was put off
 * is written, so that no statement misses it.
 */
export class Statements {
  private readonly known: Record<Mode, Map<string, Statement>> = {
    run: new Map(),
    value: new Map(),
    row: new Map(),
    big: new Map(),
  };

  /** @param before writes what was put off, by {@link runNow} */
  constructor(
    readonly database: Database,
    private readonly before: () => void,
  ) {}

  run(sql: string, ...values: unknown[]): number {
    this.before();
    return this.runNow(sql, ...values);
  }

  /** As {@link run}, whatever was put off. */
  runNow(sql: string, ...values: unknown[]): number {
    return this.prepare('run', sql).run(...values).changes;
  }

  /** The first column of the first row; undefined without a row. */
  value<T>(sql: string, ...values: unknown[]): T | undefined {
    this.before();
    return this.prepare('value', sql).get(...values) as T | undefined;
  }

  /** The first column of all rows. */
  values<T>(sql: string, ...values: unknown[]): T[] {
    this.before();
    return this.prepare('value', sql).all(...values) as T[];
  }

  row<T extends unknown[]>(sql: string, ...values: unknown[]): T | undefined {
    this.before();
    return this.prepare('row', sql).get(...values) as T | undefined;
  }

  rows<T extends unknown[]>(sql: string, ...values: unknown[]): T[] {
    this.before();
    return this.prepare('row', sql).all(...values) as T[];
  }

  /** As {@link rows}, every integer a bigint. */
  bigRows<T extends unknown[]>(sql: string, ...values: unknown[]): T[] {
    this.before();
    return this.prepare('big', sql).all(...values) as T[];
  }

  /** Forgets what names a table that goes. */
  forget(table: string): void {
    for (const statements of Object.values(this.known)) {
      for (const sql of statements.keys()) if (sql.includes(table)) statements.delete(sql);
    }
  }

  private prepare(mode: Mode, sql: string): Statement {
    const known = this.known[mode].get(sql);
    if (known) return known;
    const statement = this.database.prepare(sql);
    if (mode === 'value') statement.pluck();
    if (mode === 'row' || mode === 'big') statement.raw();
    if (mode === 'big') statement.safeIntegers();
    this.known[mode].set(sql, statement);
    return statement;
  }
}

import type { StoredConsumer } from '../engine/account-store.js';
import type { Statements } from './statements.js';

type Row = [name: string, config: string, createdNs: bigint, state: Buffer | null];

/**
 * Consumers of an account's streams. Positions wait here until a transaction is written for
 * another reason or the account is flushed.
 */
export class ConsumerTable {
  /** By stream and name. */
  private readonly waiting = new Map<number, Map<string, Buffer>>();

  constructor(private readonly statements: Statements) {}

  get hasWaiting(): boolean {
    return this.waiting.size > 0;
  }

  list(stream: number): StoredConsumer[] {
    const rows = this.statements.bigRows<Row>(
      'SELECT name, config, created_ns, state FROM consumer WHERE stream = ? ORDER BY name',
      stream,
    );
    return rows.map(([name, config, createdNs, state]) => ({
      name,
      config,
      createdNs,
      state: this.waiting.get(stream)?.get(name) ?? state,
    }));
  }

  save(stream: number, name: string, config: string, createdNs: bigint): void {
    this.statements.run(
      `INSERT INTO consumer (stream, name, config, created_ns) VALUES (?, ?, ?, ?)
       ON CONFLICT (stream, name)
       DO UPDATE SET config = excluded.config, created_ns = excluded.created_ns`,
      stream,
      name,
      config,
      createdNs,
    );
  }

  saveState(stream: number, name: string, state: Buffer): void {
    const states = this.waiting.get(stream);
    if (states) states.set(name, state);
    else this.waiting.set(stream, new Map([[name, state]]));
  }

  delete(stream: number, name: string): void {
    this.forgetState(stream, name);
    this.statements.run('DELETE FROM consumer WHERE stream = ? AND name = ?', stream, name);
  }

  /** Its rows go with the stream's. */
  streamDeleted(stream: number): void {
    this.waiting.delete(stream);
  }

  /** Within the transaction; {@link written} once it is on disk. */
  flush(): void {
    for (const [stream, states] of this.waiting) {
      for (const [name, state] of states) {
        this.statements.run(
          'UPDATE consumer SET state = ? WHERE stream = ? AND name = ?',
          state,
          stream,
          name,
        );
      }
    }
  }

  written(): void {
    this.waiting.clear();
  }

  private forgetState(stream: number, name: string): void {
    const states = this.waiting.get(stream);
    if (states?.delete(name) && states.size === 0) this.waiting.delete(stream);
  }
}

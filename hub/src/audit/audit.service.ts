import { createHash } from 'node:crypto';
import { Injectable } from '@nestjs/common';
import { newId } from '@rookery/core';
import { DataSource, type EntityManager } from 'typeorm';
import { AuditRow } from '../database/entities/record.entity.js';

export interface AuditEntry {
  /** `account:<id>`, `host:<id>`, `hub`. */
  readonly actor: string;
  /** Verb such as `project.start`. */
  readonly action: string;
  /** `project:<id>`, `host:<id>`, `account:<id>` … */
  readonly subject: string;
  readonly details?: Record<string, unknown>;
}

const sealLock = 728_402;
const sealRowsMax = 500;

/** Writes one row for each change, in the change's own transaction; seals them afterwards. */
@Injectable()
export class AuditService {
  /** This process's chain. */
  private readonly writer = newId();

  constructor(private readonly dataSource: DataSource) {}

  async record(manager: EntityManager, entry: AuditEntry): Promise<void> {
    await manager.query(
      `INSERT INTO audit_log (writer, at, actor, action, subject, details)
       VALUES ($1, clock_timestamp(), $2, $3, $4, $5)`,
      [this.writer, entry.actor, entry.action, entry.subject, JSON.stringify(entry.details ?? {})],
    );
  }

  /**
   * Extends every chain over rows that are not sealed yet. One worker at a time.
   * @returns how many rows were sealed.
   */
  async seal(): Promise<number> {
    return this.dataSource.transaction(async (manager) => {
      const [{ locked }] = await manager.query<[{ locked: boolean }]>(
        'SELECT pg_try_advisory_xact_lock($1) AS locked',
        [sealLock],
      );
      if (!locked) return 0;
      const rows = await manager
        .createQueryBuilder(AuditRow, 'row')
        .where('row.hash IS NULL')
        .orderBy('row.id')
        .limit(sealRowsMax)
        .getMany();
      const heads = new Map<string, { sequence: number; hash: Buffer }>();
      for (const row of rows) {
        const head = heads.get(row.writer) ?? (await chainHead(manager, row.writer));
        const sealed = { sequence: head.sequence + 1, hash: auditHash(row, head.hash) };
        await manager.query(
          'UPDATE audit_log SET sequence = $2, previous_hash = $3, hash = $4 WHERE id = $1',
          [row.id, sealed.sequence, head.hash, sealed.hash],
        );
        heads.set(row.writer, sealed);
      }
      return rows.length;
    });
  }
}

async function chainHead(
  manager: EntityManager,
  writer: string,
): Promise<{ sequence: number; hash: Buffer }> {
  const last = await manager
    .createQueryBuilder(AuditRow, 'row')
    // Of the index of writer and sequence its last entry: `getOne` alone reads the whole chain.
    .where('row.writer = :writer AND row.sequence IS NOT NULL', { writer })
    .orderBy('row.sequence', 'DESC')
    .limit(1)
    .getOne();
  return { sequence: last?.sequence ?? 0, hash: last?.hash ?? Buffer.alloc(32) };
}

/** SHA-256 over the hash before and the row's content in a fixed order. */
function auditHash(row: AuditRow, previous: Buffer): Buffer {
  const { writer, at, actor, action, subject, details } = row;
  const content = [row.id, writer, at.toISOString(), actor, action, subject, canonical(details)];
  return createHash('sha256').update(previous).update(JSON.stringify(content)).digest();
}

/** jsonb does not keep the order of keys. */
function canonical(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(canonical);
  if (typeof value !== 'object' || value === null) return value;
  const entries = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
  return entries.map(([key, each]) => [key, canonical(each)]);
}

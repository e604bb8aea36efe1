import type { EntityManager } from 'typeorm';
import { CoreErrors } from '@rookery/core';
import { z } from 'zod';

/** Where a page ended: the sort key of its last row. Opaque to callers. */
const Cursor = z.tuple([z.string().max(100), z.string().max(200)]);

export interface Page<T> {
  readonly items: T[];
  readonly nextCursor: string | null;
}

export interface PageRequest {
  readonly limit: number;
  readonly cursor?: string | undefined;
}

export interface PageSql {
  /** `SELECT … FROM … WHERE …`, without order or limit; numbered parameters. */
  readonly select: string;
  readonly parameters: readonly unknown[];
  /** Columns of the result to sort by; the pair is unique. */
  readonly by: readonly [time: string, id: string];
  readonly newestFirst: boolean;
}

/** Runs a query one page at a time by key, so that rows added meanwhile shift nothing. */
export async function pageOfRows<Row>(
  manager: Pick<EntityManager, 'query'>,
  sql: PageSql,
  request: PageRequest,
): Promise<Page<Row>> {
  const [time, id] = sql.by;
  const parameters: unknown[] = [...sql.parameters];
  let after = '';
  if (request.cursor !== undefined) {
    const [lastTime, lastId] = decode(request.cursor);
    const n = parameters.push(lastTime, lastId);
    const sign = sql.newestFirst ? '<' : '>';
    after = `WHERE (${time}::text::timestamptz, ${id}::text) ${sign} ($${n - 1}::timestamptz, $${n})`;
  }
  const direction = sql.newestFirst ? 'DESC' : 'ASC';
  const n = parameters.push(request.limit + 1);
  const rows = await manager.query<(Row & { cursor_time: string; cursor_id: string })[]>(
    `SELECT *, ${time}::text AS cursor_time, ${id}::text AS cursor_id
     FROM (${sql.select}) AS page ${after}
     ORDER BY ${time} ${direction}, ${id}::text ${direction} LIMIT $${n}`,
    parameters,
  );
  const items = rows.slice(0, request.limit);
  const last = items.at(-1);
  const more = rows.length > items.length && last !== undefined;
  return { items, nextCursor: more ? encode([last.cursor_time, last.cursor_id]) : null };
}

const encode = (cursor: z.infer<typeof Cursor>): string =>
  Buffer.from(JSON.stringify(cursor)).toString('base64url');

function decode(text: string): z.infer<typeof Cursor> {
  try {
    const cursor = Cursor.parse(JSON.parse(Buffer.from(text, 'base64url').toString('utf8')));
    if (Number.isNaN(Date.parse(cursor[0]))) throw new TypeError('not a time');
    return cursor;
  } catch (error) {
    throw CoreErrors.INVALID_INPUT({ reason: 'cursor: not one of ours' }, { cause: error });
  }
}

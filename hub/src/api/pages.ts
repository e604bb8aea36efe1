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
  /** Of the second column. Default `uuid`. */
  readonly idType?: IdType;
}

type IdType = 'uuid' | 'bigint' | 'text';

/** What Postgres takes for one: a cursor is what a caller says. */
const idForms: Readonly<Record<IdType, RegExp>> = {
  uuid: /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/,
  bigint: /^\d{1,18}$/,
  text: /^[^\0]*$/,
};
const timeForm = /^(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d)(?:\.\d{1,6})?[+-]\d\d(?::\d\d)?$/;

/**
 * Runs a query one page at a time by key, so that rows added meanwhile shift nothing. Columns are
 * compared and sorted as they are, so that an index on them ends the search at the page's end.
 */
export async function pageOfRows<Row>(
  manager: Pick<EntityManager, 'query'>,
  sql: PageSql,
  request: PageRequest,
): Promise<Page<Row>> {
  const [time, id] = sql.by;
  const { idType = 'uuid' } = sql;
  const parameters: unknown[] = [...sql.parameters];
  let after = '';
  if (request.cursor !== undefined) {
    const [lastTime, lastId] = decode(request.cursor, idType);
    const n = parameters.push(lastTime, lastId);
    const sign = sql.newestFirst ? '<' : '>';
    after = `WHERE (${time}, ${id}) ${sign} ($${n - 1}::timestamptz, $${n}::${idType})`;
  }
  const direction = sql.newestFirst ? 'DESC' : 'ASC';
  const n = parameters.push(request.limit + 1);
  const rows = await manager.query<(Row & { cursor_time: string; cursor_id: string })[]>(
    `SELECT *, ${time}::text AS cursor_time, ${id}::text AS cursor_id
     FROM (${sql.select}) AS page ${after}
     ORDER BY ${time} ${direction}, ${id} ${direction} LIMIT $${n}`,
    parameters,
  );
  const items = rows.slice(0, request.limit);
  const last = items.at(-1);
  const more = rows.length > items.length && last !== undefined;
  return { items, nextCursor: more ? encode([last.cursor_time, last.cursor_id]) : null };
}

const encode = (cursor: z.infer<typeof Cursor>): string =>
  Buffer.from(JSON.stringify(cursor)).toString('base64url');

function decode(text: string, idType: IdType): z.infer<typeof Cursor> {
  try {
    const cursor = Cursor.parse(JSON.parse(Buffer.from(text, 'base64url').toString('utf8')));
    const [time, id] = cursor;
    if (!isTime(time) || !idForms[idType].test(id)) throw new TypeError('not a key');
    return cursor;
  } catch (error) {
    throw CoreErrors.INVALID_INPUT({ reason: 'cursor: not one of ours' }, { cause: error });
  }
}

/** As Postgres writes times, and a day that there is. */
function isTime(text: string): boolean {
  const [, day = '', clock = ''] = timeForm.exec(text) ?? [];
  const time = Date.parse(`${day}T${clock}Z`);
  return !Number.isNaN(time) && new Date(time).toISOString().startsWith(`${day}T${clock}`);
}

import type { ProjectReport, ReportSpan } from '@rookery/fleet/contract';
import type { DataSource } from 'typeorm';
import { HubErrors } from '../hub.errors.js';

export interface ReportedPage {
  readonly projects: readonly ProjectReport[];
  readonly span?: ReportSpan | undefined;
}

interface Differing {
  readonly id: string;
  readonly generation: number;
  readonly host: string;
  /** What the host reports; null: nothing. */
  readonly reported: number | null;
  /** What the project says is wrong. */
  readonly shown: string | null;
}

/**
 * Compares what a host owns with what it reports. What is lacking for `confirmMs` is shown on the
 * project as PROJECT_MISSING: one report may have left the host before the project came to it, and
 * while an operation works on a project, that operation knows more. Writes only what changes.
 */
export async function noteMissing(
  dataSource: DataSource,
  hostId: string,
  { projects, span }: ReportedPage,
  confirmMs: number,
): Promise<void> {
  // A host of an earlier release does not say of what the page is.
  if (!span) return;
  const reports = projects.map(({ projectId: id, generation }) => ({ id, generation }));
  const differing = await dataSource.query<Differing[]>(
    `SELECT q.id, q.placement_generation AS generation, h.name AS host, s.generation AS reported,
       q.error->>'message' AS shown
     FROM projects q JOIN project_hosts h ON h.id = q.host_id
     LEFT JOIN jsonb_to_recordset($2::jsonb) AS s(id uuid, generation integer) ON s.id = q.id
     WHERE q.host_id = $1 AND q.deleted_at IS NULL AND q.provisioned
       AND ($3::uuid IS NULL OR q.id > $3) AND ($4::uuid IS NULL OR q.id <= $4)
       AND (q.missing_since IS NOT NULL OR s.generation IS DISTINCT FROM q.placement_generation)`,
    [hostId, JSON.stringify(reports), span.after ?? null, span.upTo ?? null],
  );
  const lacking = differing.filter(({ generation, reported }) => generation !== reported);
  const back = differing.filter(({ generation, reported }) => generation === reported);
  if (lacking.length > 0) await noteLacking(dataSource, hostId, lacking, confirmMs);
  if (back.length > 0) await noteBack(dataSource, hostId, back);
}

async function noteLacking(
  dataSource: DataSource,
  hostId: string,
  lacking: readonly Differing[],
  confirmMs: number,
): Promise<void> {
  const rows = lacking.flatMap(({ id, generation, host, reported, shown }) => {
    const found = reported === null ? 'nothing' : `generation ${reported} instead of ${generation}`;
    const error = HubErrors.PROJECT_MISSING({ host, found, projectId: id }).toJSON();
    return error.message === shown ? [] : [{ id, error }];
  });
  if (rows.length === 0) return;
  await dataSource.transaction(async (manager) => {
    // In the order in which reports lock projects, too.
    const ids = rows.map(({ id }) => id);
    await manager.query('SELECT 1 FROM projects WHERE id = ANY($1) ORDER BY id FOR UPDATE', [ids]);
    await manager.query(
      `UPDATE projects p SET
         missing_since = coalesce(p.missing_since, now()),
         state = CASE WHEN f.sure THEN 'error' ELSE p.state END,
         error = CASE WHEN f.sure THEN f.error ELSE p.error END
       FROM (
         SELECT q.id, s.error, coalesce(q.missing_since < now() - $3::interval, false) AS sure
         FROM projects q JOIN jsonb_to_recordset($2::jsonb) AS s(id uuid, error jsonb)
           ON s.id = q.id
         WHERE q.host_id = $1 AND q.deleted_at IS NULL
           AND coalesce(q.state_set_at < now() - $3::interval, true)
           AND NOT EXISTS (SELECT 1 FROM operations o
             WHERE o.project_id = q.id AND o.lane = 'lifecycle' AND o.ended_at IS NULL)
       ) AS f
       WHERE p.id = f.id AND (p.missing_since IS NULL OR f.sure)`,
      [hostId, JSON.stringify(rows), `${confirmMs} milliseconds`],
    );
  });
}

/** The host has them again; what it says of their states was believed before. */
async function noteBack(
  dataSource: DataSource,
  hostId: string,
  back: readonly Differing[],
): Promise<void> {
  await dataSource.transaction(async (manager) => {
    const ids = back.map(({ id }) => id);
    await manager.query('SELECT 1 FROM projects WHERE id = ANY($1) ORDER BY id FOR UPDATE', [ids]);
    await manager.query(
      `UPDATE projects SET missing_since = NULL,
         error = CASE WHEN error->>'code' = 'PROJECT_MISSING' THEN NULL ELSE error END
       WHERE host_id = $1 AND id = ANY($2)`,
      [hostId, ids],
    );
  });
}

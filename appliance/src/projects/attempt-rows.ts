import { noAttempts, type KnownAttempts } from '@rookery/runner';
import { AttemptsRow } from '../database/entities/attempts.entity.js';
import type { Rows, WritableRows } from '../database/host-database.js';

/** In place of a project's id: of all projects that are remembered no more. */
export const allForgotten = '';

/** Who was let in to a project, as far as it is remembered. */
export function knownIn(rows: Rows, projectId: string): KnownAttempts {
  const row =
    rows.findOne(AttemptsRow, { projectId }) ??
    rows.findOne(AttemptsRow, { projectId: allForgotten });
  return row ?? noAttempts;
}

export function noteAttempts(
  rows: WritableRows,
  projectId: string,
  known: KnownAttempts,
  heardAt: number,
): void {
  const { operations, exclusiveClaim, forgottenClaim } = known;
  const row = { projectId, operations: [...operations], exclusiveClaim, forgottenClaim, heardAt };
  rows.put(AttemptsRow, row);
}

import type { OperationView } from '@rookery/api';
import type { CodedErrorView } from '@rookery/core/contract';
import type { z } from 'zod';
import type { Operation } from '../database/entities/operation.entity.js';

/** How an operation that has not ended stands. */
function present(
  row: Operation,
): Pick<z.input<typeof OperationView>, 'tries' | 'lastError' | 'waitsFor'> {
  if (row.endedAt !== null) return { tries: 0, lastError: null, waitsFor: null };
  const { retry } = (row.saga ?? {}) as { retry?: { count: number; error: CodedErrorView } };
  const since = row.waitsSince?.toISOString();
  return {
    tries: retry?.count ?? 0,
    lastError: retry?.error ?? null,
    waitsFor: row.waitsFor && since !== undefined ? { name: null, ...row.waitsFor, since } : null,
  };
}

export function toOperationView(row: Operation): z.input<typeof OperationView> {
  const { id, kind, projectId, hostId, state, step, progress, attempt, cancelRequested } = row;
  return {
    id,
    kind,
    projectId,
    hostId,
    state,
    progress,
    attempt,
    cancelRequested,
    step: state === 'pending' ? null : step,
    error: row.error,
    ...present(row),
    leaves: row.leaves ?? [],
    result: row.result as z.input<typeof OperationView>['result'],
    parentId: row.parentId,
    createdAt: row.createdAt.toISOString(),
    startedAt: row.startedAt?.toISOString() ?? null,
    endedAt: row.endedAt?.toISOString() ?? null,
  };
}

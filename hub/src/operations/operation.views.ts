import type { OperationView } from '@rookery/client/contract';
import type { z } from 'zod';
import type { Operation } from '../database/entities/operation.entity.js';

export function toOperationView(row: Operation): z.input<typeof OperationView> {
  const { id, kind, projectId, hostId, state, step, progress, attempt, cancelRequested } = row;
  return {
    ...{ id, kind, projectId, hostId, state, progress, attempt, cancelRequested },
    step: state === 'pending' ? null : step,
    error: row.error,
    result: row.result as z.input<typeof OperationView>['result'],
    parentId: row.parentId,
    createdAt: row.createdAt.toISOString(),
    startedAt: row.startedAt?.toISOString() ?? null,
    endedAt: row.endedAt?.toISOString() ?? null,
  };
}

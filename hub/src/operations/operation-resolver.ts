import { Injectable } from '@nestjs/common';
import { SagaErrors } from '@rookery/move';
import { DataSource, type EntityManager } from 'typeorm';
import { AuditService } from '../audit/audit.service.js';
import { ProjectHost } from '../database/entities/host.entity.js';
import { Operation } from '../database/entities/operation.entity.js';
import { Project } from '../database/entities/project.entity.js';
import { HubErrors } from '../hub.errors.js';
import { settleMove, type Resolution, type Settlement } from './resolve-move.js';

/** Kinds that change the owner: a row in `project_moves` stands beside them. */
const ownerChanges = ['project.move', 'backup.replace', 'backup.replace-here'];
/** Nothing but a person can say that these were done; of all others a result is expected. */
const canBeDone = [
  ...ownerChanges,
  'project.delete',
  'project.start',
  'project.stop',
  'project.update',
  'host.drain',
];

/** Who ends an operation, and why, for its error and the audit. */
export interface Resolving {
  readonly as: Resolution;
  readonly actor: string;
  readonly reason: string;
}

/** Brings operations to an end that they do not find themselves. */
@Injectable()
export class OperationResolver {
  constructor(
    private readonly dataSource: DataSource,
    private readonly audit: AuditService,
  ) {}

  /** What is stuck, or waits, goes on at once. @throws OPERATION_ENDED */
  async retry(operationId: string, actor: string): Promise<void> {
    await this.dataSource.transaction(async (manager) => {
      await lockOperation(manager, operationId);
      await manager.query('UPDATE operations SET run_at = now() WHERE id = $1', [operationId]);
      await this.audit.record(manager, {
        actor,
        action: 'operation.retry',
        subject: `operation:${operationId}`,
      });
    });
  }

  /** @throws OPERATION_ENDED, RESOLVE_REFUSED */
  async resolve(operationId: string, resolving: Resolving): Promise<void> {
    await this.dataSource.transaction((manager) => this.end(manager, operationId, resolving));
  }

  /**
   * Ends an operation as an operator says, in the caller's transaction. Its attempt is raised with
   * it: a worker that is at it finds its lease lost, and hosts refuse what it still sends.
   */
  async end(
    manager: EntityManager,
    operationId: string,
    resolving: Resolving,
  ): Promise<Settlement> {
    const { as, actor, reason } = resolving;
    const operation = await lockOperation(manager, operationId);
    const { kind, projectId } = operation;
    if (as === 'done' && !canBeDone.includes(kind)) {
      const why = `nobody can say what ${kind} would have given`;
      throw HubErrors.RESOLVE_REFUSED({ as, reason: why, other: 'failed' });
    }
    const settled = ownerChanges.includes(kind)
      ? await settleMove(manager, operation, as)
      : await settleOther(manager, operation, as);
    const error = HubErrors.OPERATION_RESOLVED({ reason }).toJSON();
    await manager.query(
      `UPDATE operations SET attempt = attempt + 1, state = $2, error = $3, leaves = $4,
         result = $5, ended_at = now(), lease_expires_at = NULL, waits_for = NULL
       WHERE id = $1`,
      [
        operationId,
        as === 'done' ? 'succeeded' : 'failed',
        as === 'done' ? null : JSON.stringify(error),
        JSON.stringify(settled.leaves),
        as === 'done' && projectId !== null ? JSON.stringify({ projectId }) : null,
      ],
    );
    if (operation.parentId !== null) {
      await manager.query(
        'UPDATE operations SET run_at = now() WHERE id = $1 AND ended_at IS NULL',
        [operation.parentId],
      );
    }
    await this.audit.record(manager, {
      actor,
      action: 'operation.resolve',
      subject: `operation:${operationId}`,
      details: { as, kind, projectId, reason, ...settled },
    });
    if (settled.takenBackTo && projectId !== null) {
      await this.audit.record(manager, {
        actor,
        action: 'project.owner-changed',
        subject: `project:${projectId}`,
        details: { reason: 'taken back', operationId, ...settled.takenBackTo },
      });
    }
    return settled;
  }
}

async function lockOperation(manager: EntityManager, operationId: string): Promise<Operation> {
  const operation = await manager.findOne(Operation, {
    where: { id: operationId },
    lock: { mode: 'pessimistic_write' },
  });
  if (!operation) throw SagaErrors.OPERATION_UNKNOWN({ operationId });
  if (operation.endedAt === null) return operation;
  throw HubErrors.OPERATION_ENDED({ operationId, state: operation.state });
}

async function settleOther(
  manager: EntityManager,
  operation: Operation,
  as: Resolution,
): Promise<Settlement> {
  const { kind, projectId } = operation;
  if (projectId === null) return { leaves: [] };
  const project = await manager.findOneOrFail(Project, {
    where: { id: projectId },
    lock: { mode: 'pessimistic_write' },
  });
  const host =
    project.hostId === null
      ? null
      : await manager.findOneByOrFail(ProjectHost, { id: project.hostId });
  if (kind === 'project.delete' && as === 'done') {
    await manager.update(Project, projectId, {
      deletedAt: () => 'now()',
      hostId: null,
      desiredState: 'deleted',
      error: null,
    });
    return { leaves: host ? [`host ${host.name} may still hold the project's files`] : [] };
  }
  const { before } = operation.input as { before?: Project['state'] };
  if (before !== undefined && as === 'failed') {
    await manager.update(Project, projectId, { state: before });
  }
  if (!host || as === 'done') return { leaves: [] };
  return { leaves: [`host ${host.name} may still be at work on it, or hold part of its result`] };
}

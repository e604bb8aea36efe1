import { createHash } from 'node:crypto';
import { Injectable } from '@nestjs/common';
import { BackupErrors } from '@rookery/backup';
import type { Route, Started } from '@rookery/api';
import { CodedError, newId, waitFor } from '@rookery/core';
import type { CodedErrorView } from '@rookery/core/contract';
import { MoveErrors, newSagaRecord } from '@rookery/move';
import {
  DataSource,
  QueryFailedError,
  type EntityManager,
  type QueryDeepPartialEntity,
} from 'typeorm';
import type { z } from 'zod';
import { actorOf, type Caller } from '../accounts/auth.service.js';
import type { ApiCall } from '../api/handlers.js';
import { AuditService } from '../audit/audit.service.js';
import { Operation } from '../database/entities/operation.entity.js';
import { Project } from '../database/entities/project.entity.js';
import { HubErrors } from '../hub.errors.js';
import { ProjectQueries } from '../projects/project.queries.js';
import { toOperationView } from './operation.views.js';
import { sagaOf, type OperationInput, type OperationKind } from './sagas.js';
import { WorkSignal } from './work-signal.js';

/** Operations that a backup may run beside: they neither end the project nor change its owner. */
const besideBackup: readonly OperationKind[] = ['project.start', 'project.stop', 'project.update'];

export interface NewOperation<K extends OperationKind = OperationKind> {
  readonly kind: K;
  readonly input: OperationInput<K>;
  readonly projectId?: string;
  readonly hostId?: string;
  readonly lane?: 'lifecycle' | 'backup';
  /** Absent: the hub itself. */
  readonly caller?: Caller | undefined;
  readonly idempotencyKey?: string | undefined;
  readonly parentId?: string;
  /** Chosen by callers whose rows must name the operation before it exists. */
  readonly id?: string;
}

/** Begins long work and tells how far it is. */
@Injectable()
export class OperationsService {
  constructor(
    private readonly dataSource: DataSource,
    private readonly audit: AuditService,
    private readonly queries: ProjectQueries,
    private readonly signal: WorkSignal,
  ) {}

  /**
   * Inserts an operation in the caller's transaction, which holds the project's row.
   * Call `nudge` after the commit.
   * @throws PROJECT_MOVING, BACKUP_IN_PROGRESS, PROJECT_BUSY; what {@link isLaneTaken} knows when
   * another transaction has just begun work, whose operation this one does not see yet
   */
  async insert<K extends OperationKind>(
    manager: EntityManager,
    operation: NewOperation<K>,
  ): Promise<Operation> {
    const { kind, input, caller, projectId, idempotencyKey: key } = operation;
    if (projectId !== undefined) await this.refuseConflict(manager, projectId, operation);
    const id = operation.id ?? newId();
    const saga = newSagaRecord(sagaOf(kind), { operationId: id, input });
    const row = manager.create(Operation, {
      id,
      kind,
      projectId: projectId ?? null,
      hostId: operation.hostId ?? null,
      state: 'pending',
      step: saga.step,
      progress: null,
      attempt: 0,
      leaseOwner: null,
      leaseExpiresAt: null,
      cancelRequested: false,
      lane: operation.lane ?? null,
      idempotencyKey: key === undefined ? null : hashOf(key),
      parentId: operation.parentId ?? null,
      createdBy: caller?.accountId ?? null,
      input: input as Record<string, unknown>,
      saga: saga as unknown as Record<string, unknown>,
      error: null,
      result: null,
      startedAt: null,
      endedAt: null,
    });
    await manager.insert(Operation, row as QueryDeepPartialEntity<Operation>);
    const subject = projectId ?? operation.hostId;
    await this.audit.record(manager, {
      actor: caller ? actorOf(caller) : 'hub',
      action: kind,
      subject: `${projectId === undefined ? 'host' : 'project'}:${subject ?? ''}`,
      details: { operationId: id, ...input },
    });
    return manager.findOneByOrFail(Operation, { id });
  }

  nudge(): void {
    this.signal.ring();
  }

  /** The active operation of a project in the lifecycle lane. */
  async active(manager: EntityManager, projectId: string): Promise<Operation | undefined> {
    const rows = await this.activeOf(manager, projectId);
    return rows.find((row) => row.lane === 'lifecycle');
  }

  /** @throws PROJECT_MOVING, BACKUP_IN_PROGRESS, PROJECT_BUSY */
  async refuseConflict(
    manager: EntityManager,
    projectId: string,
    wanted: Pick<NewOperation, 'kind' | 'lane'>,
  ): Promise<void> {
    const isBackup = wanted.lane === 'backup';
    if (!isBackup && wanted.lane !== 'lifecycle') return;
    for (const row of await this.activeOf(manager, projectId)) {
      if (row.kind === 'backup.run') {
        if (isBackup || !besideBackup.includes(wanted.kind))
          throw BackupErrors.BACKUP_IN_PROGRESS({ projectId });
      } else if (row.kind === 'project.move') {
        throw MoveErrors.PROJECT_MOVING();
      } else if (!isBackup || !besideBackup.includes(row.kind as OperationKind)) {
        throw HubErrors.PROJECT_BUSY({ kind: row.kind, operationId: row.id });
      }
    }
  }

  async started(operation: Operation, caller: Caller): Promise<z.input<typeof Started>> {
    const view = toOperationView(operation);
    if (operation.projectId === null) return { operation: view };
    const manager = this.dataSource.manager;
    const project = await manager.findOneBy(Project, { id: operation.projectId });
    const role = await this.queries.roleOf(caller.accountId, operation.projectId);
    if (!project || !role) return { operation: view };
    return { operation: view, project: await this.queries.view(project, role) };
  }

  /** What a POST with this key had begun before its process died. */
  async byIdempotencyKey(
    call: Pick<ApiCall<Route>, 'caller' | 'idempotencyKey'>,
  ): Promise<z.input<typeof Started> | undefined> {
    const { caller, idempotencyKey = '' } = call;
    const operation = await this.dataSource.manager.findOne(Operation, {
      where: { createdBy: caller.accountId, idempotencyKey: hashOf(idempotencyKey) },
      order: { createdAt: 'DESC' },
    });
    return operation ? this.started(operation, call.caller) : undefined;
  }

  /**
   * Waits until an operation has ended.
   * @throws the operation's error; TIMEOUT
   */
  async ended(operationId: string, timeoutMs: number): Promise<Operation> {
    const manager = this.dataSource.manager;
    const operation = await waitFor(
      `operation ${operationId} ends`,
      async () => {
        const row = await manager.findOneByOrFail(Operation, { id: operationId });
        return row.endedAt === null ? undefined : row;
      },
      { timeoutMs, everyMs: 50 },
    );
    if (operation.state !== 'succeeded') throw errorOf(operation);
    return operation;
  }

  private activeOf(manager: EntityManager, projectId: string): Promise<Operation[]> {
    return manager
      .createQueryBuilder(Operation, 'op')
      .where('op.projectId = :projectId AND op.lane IS NOT NULL AND op.endedAt IS NULL', {
        projectId,
      })
      .getMany();
  }
}

/** Of the key's use with one route: see the binder. */
const hashOf = (key: string): string => createHash('sha256').update(key).digest('base64url');

function errorOf(operation: Operation): CodedError {
  const fallback: CodedErrorView = {
    code: 'CANCELED',
    message: 'The work was canceled before it ended.',
    status: 409,
    retryable: false,
  };
  return new CodedError(operation.error ?? fallback);
}

/** Two transactions saw a free lane, and the index let the other one through. */
export const isLaneTaken = (error: unknown): boolean => isUnique(error, 'operations_one_a_lane');

export function isUnique(error: unknown, constraint: string): boolean {
  return (
    error instanceof QueryFailedError &&
    (error.driverError as { constraint?: string }).constraint === constraint
  );
}

import { Inject, Injectable } from '@nestjs/common';
import { CoreErrors } from '@rookery/core';
import { MoveState } from '@rookery/core/contract';
import {
  MoveErrors,
  PlacementAuthority,
  SagaErrors,
  type MoveDetails,
  type MovePlan,
} from '@rookery/move';
import { DataSource, type EntityManager } from 'typeorm';
import { AuditService } from '../audit/audit.service.js';
import { HUB_CONFIG, type HubConfig } from '../config/config.js';
import { HostKey, ProjectHost } from '../database/entities/host.entity.js';
import { Operation, ProjectMove } from '../database/entities/operation.entity.js';
import { Project } from '../database/entities/project.entity.js';
import { specOf } from '../projects/project.queries.js';

/** In the order in which a row passes through them. */
const order: readonly MoveState[] = MoveState.options;
const endings: readonly MoveState[] = ['done', 'failed', 'canceled'];

/**
 * Who owns what. Each method is one transaction that first locks the operation's row at the
 * caller's attempt: as long as it runs no other worker can claim the operation, and a worker that
 * was superseded gets LEASE_LOST. Locks are always taken in the order operation, move, project.
 */
@Injectable()
export class PostgresPlacementAuthority extends PlacementAuthority {
  constructor(
    private readonly dataSource: DataSource,
    private readonly audit: AuditService,
    @Inject(HUB_CONFIG) private readonly config: HubConfig,
  ) {
    super();
  }

  async loadMove(moveId: string): Promise<MovePlan> {
    const { manager } = this.dataSource;
    const move = await moveOf(manager, moveId);
    const project = await manager.findOneByOrFail(Project, { id: move.projectId });
    const target = await manager.findOneByOrFail(ProjectHost, { id: move.toHostId });
    if (move.fromHostId === null)
      throw CoreErrors.NOT_FOUND({ what: 'source of move', id: moveId });
    return {
      moveId,
      projectId: move.projectId,
      fromHostId: move.fromHostId,
      toHostId: move.toHostId,
      expectedGeneration: move.fromGeneration,
      spec: specOf(project),
      target: {
        hostId: target.id,
        sshHost: target.sshEndpoint.host,
        sshPort: target.sshEndpoint.port,
        ingressKey: await this.key(move.toHostId, 'ingress'),
      },
      sourceTransferKey: await this.key(move.fromHostId, 'transfer'),
      newUrl: `${this.config.publicUrl}/${project.id}/port/`,
    };
  }

  async setState(
    moveId: string,
    attempt: number,
    state: MoveState,
    details: MoveDetails = {},
  ): Promise<void> {
    await this.hold(moveId, attempt, async (manager, move) => {
      const next = state === 'stuck' ? move.state : state;
      const forward = order.indexOf(next) < order.indexOf('undoing');
      if (forward && isUndone(move)) throw MoveErrors.MOVE_UNDONE();
      const later = order.indexOf(next) > order.indexOf(move.state);
      await manager.update(ProjectMove, moveId, {
        state: later ? next : move.state,
        stuck: state === 'stuck',
        details: { ...move.details, ...details } as Record<string, never>,
        ...(endings.includes(state) && move.endedAt === null && { endedAt: () => 'now()' }),
      });
      const shown = endings.includes(state) ? null : state;
      await this.showOnProject(manager, move, shown, details['resumed'] === true);
    });
  }

  async commit(change: {
    readonly moveId: string;
    readonly projectId: string;
    readonly attempt: number;
    readonly expectedGeneration: number;
    readonly toHostId: string;
  }): Promise<number> {
    const { moveId, projectId, expectedGeneration, toHostId } = change;
    return this.hold(moveId, change.attempt, async (manager, move) => {
      if (move.newGeneration !== null) return move.newGeneration;
      if (move.state !== 'committing') throw MoveErrors.MOVE_UNDONE();
      const project = await manager.findOneOrFail(Project, {
        where: { id: projectId },
        lock: { mode: 'pessimistic_write' },
      });
      if (
        project.placementGeneration !== expectedGeneration ||
        project.hostId !== move.fromHostId ||
        toHostId !== move.toHostId ||
        project.deletedAt !== null
      ) {
        const current = project.placementGeneration;
        throw CoreErrors.STALE_GENERATION({ given: expectedGeneration, current });
      }
      const target = await manager.findOneByOrFail(ProjectHost, { id: toHostId });
      const newGeneration = expectedGeneration + 1;
      await manager.update(Project, projectId, {
        hostId: toHostId,
        host: { name: target.name, publicUrl: target.publicUrl },
        placementGeneration: newGeneration,
      });
      await manager.update(ProjectMove, moveId, { newGeneration, committedAt: () => 'now()' });
      await this.audit.record(manager, {
        actor: 'hub',
        action: 'project.owner-changed',
        subject: `project:${projectId}`,
        details: {
          moveId,
          reason: move.reason,
          generation: newGeneration,
          fromHostId: move.fromHostId,
          toHostId,
          operationId: move.operationId,
        },
      });
      return newGeneration;
    });
  }

  async beginUndo(moveId: string, attempt: number): Promise<'undoing' | 'committed'> {
    return this.hold(moveId, attempt, async (manager, move) => {
      if (move.newGeneration !== null) return 'committed';
      if (!isUndone(move)) {
        await manager.update(ProjectMove, moveId, { state: 'undoing', stuck: false });
        await this.showOnProject(manager, move, 'undoing');
      }
      return 'undoing';
    });
  }

  private async hold<T>(
    moveId: string,
    attempt: number,
    task: (manager: EntityManager, move: ProjectMove) => Promise<T>,
  ): Promise<T> {
    const { operationId } = await moveOf(this.dataSource.manager, moveId);
    return this.dataSource.transaction(async (manager) => {
      const operation = await manager.findOne(Operation, {
        where: { id: operationId },
        lock: { mode: 'pessimistic_write' },
      });
      if (operation?.attempt !== attempt) throw SagaErrors.LEASE_LOST({ operationId });
      const move = await manager.findOneOrFail(ProjectMove, {
        where: { id: moveId },
        lock: { mode: 'pessimistic_write' },
      });
      return task(manager, move);
    });
  }

  private async showOnProject(
    manager: EntityManager,
    move: ProjectMove,
    state: MoveState | null,
    resumed = false,
  ): Promise<void> {
    const { operationId } = move;
    const before = (await manager.findOneByOrFail(Project, { id: move.projectId })).moveStatus;
    const wasFenced = !resumed && before?.fenced === true;
    const fenced = state !== null && isFencedIn(state, wasFenced);
    await manager.update(Project, move.projectId, {
      moveStatus: state === null ? null : { operationId, state, ...(fenced && { fenced }) },
    });
  }

  private async key(hostId: string, purpose: HostKey['purpose']): Promise<string> {
    // A host that was removed meanwhile has retired ones alone; what can end without it shall.
    const found = await this.dataSource.manager.findOne(HostKey, {
      where: { hostId, purpose },
      order: { retiredAt: { direction: 'DESC', nulls: 'FIRST' }, createdAt: 'DESC' },
    });
    if (!found) throw CoreErrors.NOT_FOUND({ what: `${purpose} key of host`, id: hostId });
    return found.publicKey;
  }
}

/** States in which the project stands still; an undo and `stuck` leave it as it was. */
function isFencedIn(state: MoveState, before: boolean): boolean {
  if (state === 'undoing' || state === 'stuck') return before;
  return ['cutover', 'verifying', 'committing', 'activating'].includes(state);
}

const isUndone = (move: ProjectMove): boolean =>
  order.indexOf(move.state) >= order.indexOf('undoing');

async function moveOf(manager: EntityManager, moveId: string): Promise<ProjectMove> {
  const move = await manager.findOneBy(ProjectMove, { id: moveId });
  if (!move) throw CoreErrors.NOT_FOUND({ what: 'move', id: moveId });
  return move;
}

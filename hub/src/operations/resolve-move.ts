import type { Fence } from '@rookery/core/contract';
import type { MoveDebt } from '@rookery/move';
import type { EntityManager } from 'typeorm';
import { ProjectHost } from '../database/entities/host.entity.js';
import { ProjectMove, type Operation } from '../database/entities/operation.entity.js';
import { Project } from '../database/entities/project.entity.js';
import { HubErrors } from '../hub.errors.js';
import { specOf } from '../projects/project.queries.js';
import { insertMoveDebt } from './move-debts.service.js';

export type Resolution = 'failed' | 'done';

/** What ending an operation by hand came to. */
export interface Settlement {
  /** What is left to do or lies around, in words. */
  readonly leaves: readonly string[];
  /** The owner changed again: the source has the project back, at this generation. */
  readonly takenBackTo?: { readonly hostId: string; readonly generation: number };
}

interface Move {
  readonly row: ProjectMove;
  readonly from: ProjectHost | null;
  readonly to: ProjectHost;
  /** Of the attempt that no worker has: what any of them still sends is refused. */
  readonly fence: Fence;
}

/**
 * Ends a change of owner without its hosts, in a transaction that holds the operation. The hub's
 * books say at once who owns the project; what the hosts have to do for it is owed to them.
 * @throws RESOLVE_REFUSED for what would contradict who owns the project
 */
export async function settleMove(
  manager: EntityManager,
  operation: Operation,
  as: Resolution,
): Promise<Settlement> {
  const move = await lockMove(manager, operation);
  if (!move) return { leaves: [] };
  const { row } = move;
  const committed = row.newGeneration !== null;
  const isRestore = row.reason === 'restore';
  if (!committed && as === 'done') {
    throw HubErrors.RESOLVE_REFUSED({ as, reason: 'the owner has not changed', other: 'failed' });
  }
  if (committed && as === 'failed' && (isRestore || operation.step === 'cleaning')) {
    const reason = `host ${move.to.name} has the project`;
    throw HubErrors.RESOLVE_REFUSED({ as, reason, other: 'done' });
  }
  if (committed && as === 'done' && !isRestore && operation.step !== 'cleaning') {
    const reason = `host ${move.to.name} has not said that it has the project`;
    throw HubErrors.RESOLVE_REFUSED({ as, reason, other: 'failed' });
  }
  await manager.update(ProjectMove, row.id, {
    state: as === 'done' ? 'done' : 'failed',
    stuck: false,
    endedAt: () => 'now()',
  });
  await manager.update(Project, row.projectId, { moveStatus: null });
  if (isRestore) return { leaves: leftByRestore(move, committed) };
  if (!committed) return undone(manager, move);
  return as === 'done' ? cleaned(manager, move) : takenBack(manager, move);
}

async function lockMove(manager: EntityManager, operation: Operation): Promise<Move | undefined> {
  const row = await manager.findOne(ProjectMove, {
    where: { operationId: operation.id },
    lock: { mode: 'pessimistic_write' },
  });
  if (!row || row.endedAt !== null) return undefined;
  const claim = await newClaim(manager, operation.id);
  const hostOf = (id: string) => manager.findOneByOrFail(ProjectHost, { id });
  return {
    row,
    from: row.fromHostId === null ? null : await hostOf(row.fromHostId),
    to: await hostOf(row.toHostId),
    fence: {
      projectId: row.projectId,
      generation: row.fromGeneration,
      operationId: operation.id,
      attempt: operation.attempt + 1,
      claim,
    },
  };
}

async function newClaim(manager: EntityManager, operationId: string): Promise<number> {
  const [rows] = await manager.query<[{ claim: number }[], number]>(
    `UPDATE operations SET claim = nextval('operation_claims') WHERE id = $1
     RETURNING claim::float8 AS claim`,
    [operationId],
  );
  return rows[0]!.claim;
}

async function undone(manager: EntityManager, move: Move): Promise<Settlement> {
  const { row, from, to } = move;
  const base = { moveId: row.id, fence: move.fence };
  const leaves: string[] = [];
  if (from && (await owe(manager, { ...base, kind: 'resume', hostId: from.id }))) {
    leaves.push(`host ${from.name} lets the project go on as soon as it answers`);
  }
  if (await owe(manager, { ...base, kind: 'abandon', hostId: to.id })) {
    leaves.push(`host ${to.name} drops what had arrived as soon as it answers`);
  }
  return { leaves };
}

async function cleaned(manager: EntityManager, move: Move): Promise<Settlement> {
  const { row, from, fence } = move;
  const debt = { kind: 'retire', moveId: row.id, fence } as const;
  if (!from || !(await owe(manager, { ...debt, hostId: from.id }))) return { leaves: [] };
  return { leaves: [`host ${from.name} removes its old copy as soon as it answers`] };
}

/** The source still has everything, fenced: it becomes the owner again, one generation on. */
async function takenBack(manager: EntityManager, move: Move): Promise<Settlement> {
  const { row, from, to, fence } = move;
  if (from?.status !== 'active') {
    const reason = 'its source was removed, so that nobody but the destination can have it';
    throw HubErrors.RESOLVE_REFUSED({ as: 'failed', reason, other: 'done' });
  }
  const project = await manager.findOneOrFail(Project, {
    where: { id: row.projectId },
    lock: { mode: 'pessimistic_write' },
  });
  const generation = (row.newGeneration ?? row.fromGeneration) + 1;
  if (project.hostId !== to.id || project.placementGeneration !== generation - 1) {
    const reason = 'the project has changed hands since';
    throw HubErrors.RESOLVE_REFUSED({ as: 'failed', reason, other: 'done' });
  }
  await manager.update(Project, project.id, {
    hostId: from.id,
    placementGeneration: generation,
    stateSetAt: () => 'now()',
    host: { name: from.name, publicUrl: from.publicUrl },
    state: project.desiredState === 'running' ? 'starting' : 'stopped',
  });
  const takeBack = { generation, spec: specOf(project) };
  const base = { moveId: row.id, fence };
  await owe(manager, { ...base, kind: 'resume', hostId: from.id, takeBack });
  await owe(manager, { ...base, kind: 'abandon', hostId: to.id, takenBack: true });
  return {
    takenBackTo: { hostId: from.id, generation },
    leaves: [
      `host ${from.name} has the project again, and lets it go on as soon as it answers`,
      `what host ${to.name} has of it is of the past, and stays there until it is deleted`,
    ],
  };
}

function leftByRestore({ from, to }: Move, committed: boolean): string[] {
  if (!committed) {
    return [
      `host ${to.name} may hold a half restored copy`,
      ...(from ? [`host ${from.name} still has the project, which may be stopped: start it`] : []),
    ];
  }
  return [
    `host ${to.name} has the project, which may be stopped: start it`,
    ...(from && from.id !== to.id ? [`host ${from.name} may hold its old copy`] : []),
  ];
}

const owe = (manager: EntityManager, debt: MoveDebt): Promise<boolean> =>
  insertMoveDebt(manager, debt);

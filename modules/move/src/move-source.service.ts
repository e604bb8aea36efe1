import { CoreErrors, type Clock } from '@rookery/core';
import type { Fence, MoveId } from '@rookery/core/contract';
import type { Handlers, JobContext } from '@rookery/rpc/contract';
import type { StorageDriver } from '@rookery/storage/contract';
import type { z } from 'zod';
import type { moveSource, MoveTarget } from '@rookery/fleet/contract';
import {
  startIfItCan,
  type HostProject,
  type HostProjects,
  type IngressGate,
  type TransferSender,
} from './host.ports.js';
import type { MoveJournal, OutgoingMove } from './move.journal.js';
import { MoveErrors } from './move.errors.js';
import type { TakeBack } from './move-debts.js';
import type { MoveOptions } from './move.options.js';
import { MoveWork } from './move-work.js';
import { OutgoingRows, refuseOlderAttempt } from './outgoing-rows.js';
import { dropTemporarySnapshots, SourceStreams } from './source-streams.js';

type Methods = (typeof moveSource)['methods'];
type In<M extends keyof Methods> = z.output<Methods[M]['input']>;
type Out<M extends keyof Methods> = z.output<Methods[M]['output']>;

export interface MoveSourcePorts {
  readonly storage: StorageDriver;
  readonly projects: HostProjects;
  readonly sender: TransferSender;
  readonly journal: MoveJournal;
  readonly gate: IngressGate;
  readonly clock: Clock;
}

/**
 * The source's side of a move.
 *
 * A move's row here goes `copying → fenced → retiring → retired`, or from the first two to
 * `undoing → undone`. Undone and retired are final: a request that comes late, even one of the newest
 * attempt, changes nothing. So it is when the row is forgotten: what would go forward is refused, what
 * would end the move finds it ended. Only `retire` ends ownership, and only the hub's commit leads there.
 */
export class MoveSourceService implements Handlers<typeof moveSource> {
  private readonly work = new MoveWork();
  private readonly rows: OutgoingRows;

  constructor(
    private readonly ports: MoveSourcePorts,
    private readonly options: MoveOptions,
  ) {
    this.rows = new OutgoingRows(ports.journal, ports.clock);
  }

  /** Reads only. */
  readonly describe = async ({ fence, moveId }: In<'describe'>): Promise<Out<'describe'>> => {
    const { storage, projects } = this.ports;
    refuseOlderAttempt(await this.rows.find(moveId), fence);
    const project = owned(await projects.get(fence.projectId), fence);
    const { usedBytes } = await storage.usage(fence.projectId);
    const snapshots = storage.capabilities.snapshots
      ? await storage.listSnapshots(fence.projectId)
      : [];
    const imageDigest = project.imageDigest ?? project.spec.imageDigest;
    return {
      usedBytes,
      ...(imageDigest !== undefined && { imageDigest }),
      snapshots: snapshots.length,
      running: project.desiredRunning,
      tellsImageTree: true,
    };
  };

  /** Reads only; no move's turn is waited for. */
  readonly imageTree = async (input: In<'imageTree'>): Promise<Out<'imageTree'>> => {
    const { fence, moveId, imageDigest } = input;
    refuseOlderAttempt(await this.rows.find(moveId), fence);
    const project = owned(await this.ports.projects.get(fence.projectId), fence);
    // Of the image that it runs on, and no other.
    if (imageDigest !== (project.imageDigest ?? project.spec.imageDigest)) return {};
    const treeDigest = await this.ports.storage.imageTree(imageDigest);
    return treeDigest === undefined ? {} : { treeDigest };
  };

  /** Snapshots, then rounds of pictures, each relative to the one before, until one was small. */
  readonly copy = (input: In<'copy'>, context: JobContext): Promise<Out<'copy'>> =>
    this.forward('copy', input, context, async (streams, project) => {
      const { rounds: before, moveId, projectId } = streams.move;
      const imageDigest = project.imageDigest ?? project.spec.imageDigest;
      if (input.sendImage && imageDigest !== undefined) await streams.sendImage(imageDigest);
      await streams.sendSnapshots();
      let last = before.at(-1);
      for (let n = before.length + 1; n <= Math.max(input.roundsMax, 1) || !last; n += 1) {
        const startedAt = this.ports.clock.now();
        const round = await streams.sendTemporarySnapshot(temporarySnapshotName(moveId, n));
        await streams.save({ rounds: [...streams.move.rounds, round] });
        // The one before the last is nobody's parent any more.
        if (last) await dropTemporarySnapshots(this.ports.storage, projectId, [last.name]);
        last = round;
        const tookMs = this.ports.clock.now() - startedAt;
        if (round.bytes <= this.options.deltaBytesGoal || tookMs < this.options.deltaMsGoal) break;
      }
      return {
        rounds: streams.move.rounds.length,
        bytes: streams.sentBytes,
        lastDeltaBytes: last?.bytes ?? 0,
      };
    });

  readonly cutover = (input: In<'cutover'>, context: JobContext): Promise<Out<'cutover'>> =>
    this.forward('cutover', input, context, async (streams) => {
      const { projects, gate } = this.ports;
      const { projectId, moveId } = streams.move;
      // Known to the journal before it is done: an undo then lifts it, wherever this process dies.
      await streams.save({ state: 'fenced' });
      await projects.fenceForMove(projectId, moveId);
      // Read behind the fence: nobody can change the wish to run any more.
      const project = await projects.get(projectId);
      const wasRunning = streams.move.wasRunning ?? project?.desiredRunning ?? false;
      await streams.save({ wasRunning });
      await gate.hold(projectId);
      await projects.stopContainer(projectId);
      // From here on nothing changes on this volume: a picture that a former try of this step took
      // shows the same as a new one would.
      const snapshots = await streams.sendSnapshots();
      const final = await streams.sendTemporarySnapshot(temporarySnapshotName(moveId, 'final'));
      const imageDigest = project?.imageDigest ?? project?.spec.imageDigest;
      // Read behind the stop, which writes down what listened.
      const listeners = (await projects.get(projectId))?.listeners ?? [];
      // The pictures stay until the move ends: removing them now would only make people wait.
      return {
        manifest: {
          snapshots: snapshots.map(({ name, uuid, locked, createdAt }) => {
            return { name, uuid, locked, createdAt: Math.round(createdAt) };
          }),
          final: { name: final.name, uuid: final.uuid },
          persistence: { name: final.name, uuid: final.persistenceUuid },
          ...(imageDigest !== undefined && { imageDigest }),
          ...(listeners.length > 0 && { listeners: [...listeners] }),
        },
        wasRunning,
        bytes: streams.sentBytes,
      };
    });

  /** Undo of copy and cutover, also when neither was heard of: then it bars them. */
  readonly resume = async (
    { fence, moveId, restart, takeBack }: In<'resume'>,
    context: Pick<JobContext, 'signal'>,
  ): Promise<Out<'resume'>> => {
    const move = await this.rows.admitKnown(moveId, fence);
    // Asked again after its reply was lost, and too late: it was done, and no copy begins any more.
    if (!move) return {};
    if (move.state === 'retiring' || move.state === 'retired') throw MoveErrors.MOVE_COMMITTED();
    const options = { signal: context.signal, preempted: preemptedBy(fence) };
    await this.work.run(moveId, `resume:${fence.attempt}`, options, async () => {
      // First, and in one write: a crash leaves the project fenced or here at its new generation.
      if (takeBack) await this.takeBack(moveId, takeBack);
      await this.undo(moveId, restart);
    });
    return {};
  };

  /** After the commit: the copy here is nobody's any more. */
  readonly retire = async (
    { fence, moveId, newUrl }: In<'retire'>,
    context: Pick<JobContext, 'signal'>,
  ): Promise<Out<'retire'>> => {
    const move = await this.rows.admitKnown(moveId, fence);
    if (!move) return {};
    if (move.state === 'undoing' || move.state === 'undone') throw MoveErrors.MOVE_UNDONE();
    const options = { signal: context.signal, preempted: preemptedBy(fence) };
    await this.work.run(moveId, `retire:${fence.attempt}`, options, async () => {
      const current = await this.rows.load(moveId);
      if (current.state === 'retired') return;
      // Written down first: a host that dies in the middle finishes by itself (`converge`).
      await this.rows.update(moveId, {
        state: 'retiring',
        ...(newUrl !== undefined && { newUrl }),
      });
      await this.finishRetire(moveId);
    });
    return {};
  };

  /** Finishes what a crash left half done. For the host's reconciler: at start and now and then. */
  async converge(signal: AbortSignal): Promise<void> {
    const options = { signal, preempted: () => finishing };
    for (const { moveId, state } of await this.rows.list()) {
      if (state !== 'undoing' && state !== 'retiring') continue;
      await this.work.run(moveId, `converge:${state}`, options, async () => {
        if (state === 'undoing') await this.undo(moveId, true);
        else await this.finishRetire(moveId);
      });
    }
  }

  /** Ends running streams; the hub's next attempt goes on. */
  async close(): Promise<void> {
    await this.work.close();
  }

  private async forward<T>(
    kind: string,
    input: { readonly fence: Fence; readonly moveId: MoveId; readonly target: MoveTarget },
    context: JobContext,
    task: (streams: SourceStreams, project: HostProject) => Promise<T>,
  ): Promise<T> {
    const { fence, moveId, target } = input;
    refuseOver(await this.rows.admit(moveId, fence));
    const options = { signal: context.signal, preempted: preemptedBy(fence) };
    return this.work.run(moveId, `${kind}:${fence.attempt}`, options, async (signal) => {
      // Again: while this waited, an undo or a newer attempt may have come.
      const move = await this.rows.load(moveId);
      refuseOver(move);
      refuseOlderAttempt(move, fence);
      const project = owned(await this.ports.projects.get(fence.projectId), fence);
      const { storage, sender, clock } = this.ports;
      const streams = new SourceStreams(move, {
        storage,
        sender,
        clock,
        target,
        signal,
        rows: this.rows,
        progress: (progress) => context.progress(progress),
      });
      return task(streams, project);
    });
  }

  private async undo(moveId: MoveId, restart: boolean): Promise<void> {
    const { projects, gate, storage } = this.ports;
    const move = await this.rows.load(moveId);
    if (move.state === 'undone') return;
    const { projectId } = move;
    await this.rows.update(moveId, { state: 'undoing' });
    // The project first, the traces afterwards: people wait for it.
    await projects.unfence(projectId, moveId);
    try {
      const project = await projects.get(projectId);
      if (project && restart && move.wasRunning) await startIfItCan(projects, projectId);
    } finally {
      await gate.release(projectId);
    }
    await dropTemporarySnapshots(storage, projectId, move.pictures);
    await this.rows.update(moveId, { state: 'undone', pictures: [] });
  }

  private async takeBack(moveId: MoveId, { generation, spec }: TakeBack): Promise<void> {
    const { projects } = this.ports;
    const { projectId, wasRunning = false } = await this.rows.load(moveId);
    const project = await projects.get(projectId);
    if (!project) throw MoveErrors.MOVE_NOT_OWNER({ projectId });
    await projects.adopt(projectId, generation, spec, wasRunning, project.listeners);
  }

  private async finishRetire(moveId: MoveId): Promise<void> {
    const { projects, gate, storage } = this.ports;
    const move = await this.rows.load(moveId);
    if (move.state === 'retired') return;
    const { projectId, generation, newUrl } = move;
    const project = await projects.get(projectId);
    // A newer generation has come back here by another move meanwhile: what lies here is its.
    if (!project || project.generation <= generation) {
      await gate.moved(projectId, newUrl);
      await dropTemporarySnapshots(storage, projectId, move.pictures);
      if (project) await projects.forget(projectId, newUrl);
      await storage.deleteVolume(projectId);
    }
    await this.rows.update(moveId, { state: 'retired', pictures: [] });
  }
}

const temporarySnapshotName = (moveId: MoveId, round: number | 'final'): string =>
  `move-${moveId}-${round}`;

function refuseOver(move: OutgoingMove): void {
  if (move.state === 'undoing' || move.state === 'undone') throw MoveErrors.MOVE_UNDONE();
  if (move.state === 'retiring' || move.state === 'retired') throw MoveErrors.MOVE_COMMITTED();
}

const finishing = CoreErrors.INTERRUPTED({ reason: 'the host finishes that move by itself' });

const preemptedBy = (fence: Fence) => () =>
  CoreErrors.STALE_ATTEMPT({ given: 'an earlier one', current: fence.attempt });

function owned(project: HostProject | undefined, fence: Fence): HostProject {
  if (project && project.generation > fence.generation) {
    throw CoreErrors.STALE_GENERATION({ given: fence.generation, current: project.generation });
  }
  if (!project || project.generation < fence.generation) {
    throw MoveErrors.MOVE_NOT_OWNER({ projectId: fence.projectId });
  }
  return project;
}

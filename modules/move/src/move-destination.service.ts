import { CoreErrors, KeyedLock, type Clock, type CodedErrorJson } from '@rookery/core';
import type { CodedErrorView, Fence, MoveId } from '@rookery/core/contract';
import type { Handlers, JobContext } from '@rookery/rpc/contract';
import type { ActivationPlan, StorageDriver } from '@rookery/storage/contract';
import type { z } from 'zod';
import { landingItem, type moveDestination, type MoveManifest } from '@rookery/fleet/contract';
import {
  startIfItCan,
  type HostProjects,
  type ImageSource,
  type IngressGate,
} from './host.ports.js';
import { isIncomingAlive, type IncomingMove, type MoveJournal } from './move.journal.js';
import { MoveErrors } from './move.errors.js';
import type { MoveOptions } from './move.options.js';
import { MoveWork } from './move-work.js';
import { isForgotten, refuseForgotten, refuseOlderAttempt } from './outgoing-rows.js';

type Methods = (typeof moveDestination)['methods'];
type In<M extends keyof Methods> = z.output<Methods[M]['input']>;
type Out<M extends keyof Methods> = z.output<Methods[M]['output']>;

export interface MoveDestinationPorts {
  readonly storage: StorageDriver;
  readonly projects: HostProjects;
  readonly journal: MoveJournal;
  readonly gate: IngressGate;
  readonly images?: ImageSource | undefined;
  readonly clock: Clock;
}

/**
 * The destination's side of a move.
 *
 * A move's row here goes `preparing → authorized → activating → active`, or from the first two to
 * `abandoned`. Only an authorized move lets streams in. Active and abandoned are final, also when the
 * row is forgotten.
 */
export class MoveDestinationService implements Handlers<typeof moveDestination> {
  private readonly work = new MoveWork();
  private readonly lock = new KeyedLock();

  constructor(
    private readonly ports: MoveDestinationPorts,
    private readonly options: MoveOptions,
  ) {}

  readonly prepare = (input: In<'prepare'>, context: JobContext): Promise<Out<'prepare'>> => {
    const { fence, moveId } = input;
    return this.inTurn('prepare', fence, moveId, context, async (found) => {
      if (!found) await refuseForgotten(this.ports.journal, fence);
      if (found?.state === 'abandoned') throw MoveErrors.MOVE_UNDONE();
      if (found && found.state !== 'preparing' && found.state !== 'authorized') {
        throw MoveErrors.MOVE_COMMITTED();
      }
      const { storage } = this.ports;
      await this.refuseCopyHere(fence, context.params['hostId'] ?? 'the destination');
      const { imageDigest } = input.spec;
      const hasImage =
        imageDigest !== undefined && (await storage.imagePath(imageDigest)) !== undefined;
      // Rows first, area second: the storage reconciler removes areas that no row claims.
      const move = await this.reserve(input, found);
      await storage.prepareLanding(moveId, fence.projectId);
      if (move.state === 'preparing') await this.save({ ...move, state: 'authorized' });
      return { hasImage, checksImages: true };
    });
  };

  /** For a move under way alone: what it leaves in the cache is an image like any other. */
  readonly fetchImage = (
    input: In<'fetchImage'>,
    context: JobContext,
  ): Promise<Out<'fetchImage'>> => {
    const { fence, moveId, image, imageDigest } = input;
    return this.inTurn('fetch', fence, moveId, context, async (move) => {
      if (move?.state !== 'authorized') throw MoveErrors.MOVE_UNDONE();
      const { images, storage } = this.ports;
      if ((await storage.imagePath(imageDigest)) !== undefined) return {};
      const refuse = (reason: string) => MoveErrors.MOVE_IMAGE_NOT_FETCHED({ image, reason });
      if (!images) throw refuse('it fetches none.');
      await images.fetch(image, imageDigest, (progress) => context.progress(progress));
      if ((await storage.imagePath(imageDigest)) === undefined) throw refuse('it did not come.');
      return {};
    });
  };

  /** Reads only. */
  readonly verify = async ({ fence, moveId, manifest }: In<'verify'>): Promise<Out<'verify'>> => {
    const move = await this.ports.journal.incoming(moveId);
    refuseOlderAttempt(move, fence);
    if (move?.state !== 'authorized') throw MoveErrors.MOVE_UNDONE();
    await this.verifyLanding(moveId, manifest);
    return {};
  };

  readonly activate = (input: In<'activate'>, context: JobContext): Promise<Out<'activate'>> => {
    const { fence, moveId, manifest, spec, start } = input;
    return this.inTurn('activate', fence, moveId, context, async (move) => {
      if (!move) {
        await refuseForgotten(this.ports.journal, fence);
        throw CoreErrors.NOT_FOUND({ what: 'move', id: moveId });
      }
      if (move.state === 'abandoned') throw MoveErrors.MOVE_UNDONE();
      if (fence.generation <= move.generation) {
        // Only the commit raises it: a call that carries the old one comes from before.
        throw CoreErrors.STALE_GENERATION({
          given: fence.generation,
          current: move.generation + 1,
        });
      }
      const { storage, projects, gate } = this.ports;
      const { projectId } = fence;
      if (move.state === 'active') return { overQuota: move.overQuota ?? false };
      const activating: IncomingMove = { ...move, state: 'activating' };
      await this.save(activating);
      const plan = planOf(manifest, spec.quota.diskBytes);
      // Once only: when a reply is lost after the start, the project has written to its volume.
      const overQuota =
        move.overQuota ?? (await storage.activateLanding(moveId, projectId, plan)).overQuota;
      await this.save({ ...activating, overQuota });
      // The record after the volume: a reconciler never sees a project without its files.
      await projects.adopt(projectId, fence.generation, spec, start, manifest.listeners);
      const startError = start ? await startIfItCan(projects, projectId) : undefined;
      await gate.release(projectId);
      await storage.dropLanding(moveId);
      await this.save({ ...move, state: 'active', overQuota });
      return { overQuota, ...(startError && { startError: viewOf(startError) }) };
    });
  };

  /** Undo of prepare, also when it was never heard of: then it bars it. */
  readonly abandon = (input: In<'abandon'>, context: JobContext): Promise<Out<'abandon'>> => {
    const { fence, moveId, takenBack } = input;
    return this.inTurn('abandon', fence, moveId, context, async (found) => {
      // It ended here, and no prepare of it passes any more.
      if (!found && (await isForgotten(this.ports.journal, fence))) return {};
      const committed = found?.state === 'activating' || found?.state === 'active';
      if (committed && !takenBack) throw MoveErrors.MOVE_COMMITTED();
      // A project like any other here, which the host knows not to be its own any more.
      if (found?.state === 'active') return {};
      const tombstone: IncomingMove = found ?? {
        moveId,
        projectId: fence.projectId,
        generation: fence.generation,
        attempt: fence.attempt,
        claim: fence.claim ?? 0,
        needBytes: 0,
        state: 'abandoned',
        updatedAt: 0,
      };
      // Revoked first: no stream comes in behind the area's removal.
      await this.save({ ...tombstone, state: 'abandoned', needBytes: 0 });
      await this.ports.storage.dropLanding(moveId);
      return {};
    });
  };

  async close(): Promise<void> {
    await this.work.close();
  }

  /** One request of a move at a time; an undo or a newer attempt ends the one before. */
  private async inTurn<T>(
    kind: string,
    fence: Fence,
    moveId: MoveId,
    context: Pick<JobContext, 'signal'>,
    task: (move: IncomingMove | undefined) => Promise<T>,
  ): Promise<T> {
    const { journal } = this.ports;
    refuseOlderAttempt(await journal.incoming(moveId), fence);
    const preempted = () =>
      CoreErrors.STALE_ATTEMPT({ given: 'an earlier one', current: fence.attempt });
    const options = { signal: context.signal, preempted };
    return this.work.run(moveId, `${kind}:${fence.attempt}`, options, async () => {
      const found = await journal.incoming(moveId);
      refuseOlderAttempt(found, fence);
      if (!found || found.attempt === fence.attempt) return task(found);
      const raised = { ...found, attempt: fence.attempt, claim: fence.claim ?? 0 };
      await this.save(raised);
      return task(raised);
    });
  }

  private async refuseCopyHere(fence: Fence, host: string): Promise<void> {
    const { projects, storage } = this.ports;
    const { projectId } = fence;
    const project = await projects.get(projectId);
    if (project && project.generation >= fence.generation) {
      throw MoveErrors.MOVE_SAME_HOST();
    }
    // Left by an earlier stay: the source of that move is still cleaning up, or never will.
    if (project || (await storage.volume(projectId))) {
      throw MoveErrors.MOVE_STALE_COPY({ host, projectId });
    }
  }

  /** Room is promised to one move at a time, counting what earlier ones have yet to use. */
  private reserve(input: In<'prepare'>, found: IncomingMove | undefined): Promise<IncomingMove> {
    const { fence, moveId, needBytes, spec } = input;
    const { journal, storage } = this.ports;
    return this.lock.run('reserve', async () => {
      if (found) return this.vouched(found, input.imageTree);
      const others = (await journal.listIncoming()).filter((move) => isIncomingAlive(move));
      const promised = others.reduce((sum, move) => sum + move.needBytes, 0);
      const { freeBytes } = await storage.space();
      const left = Math.max(0, freeBytes - promised - this.options.reserveBytes);
      if (needBytes > left) throw MoveErrors.DESTINATION_FULL({ freeBytes: left, needBytes });
      const move: IncomingMove = {
        moveId,
        projectId: fence.projectId,
        sourceHostId: input.sourceHostId,
        sourceTransferKey: input.sourceTransferKey,
        generation: fence.generation,
        attempt: fence.attempt,
        claim: fence.claim ?? 0,
        needBytes,
        ...(spec.imageDigest !== undefined && { imageDigest: spec.imageDigest }),
        ...(input.imageTree !== undefined && { imageTree: input.imageTree }),
        state: 'preparing',
        updatedAt: 0,
      };
      await this.save(move);
      return move;
    });
  }

  /** The hub may have heard only now what the image holds. */
  private async vouched(move: IncomingMove, imageTree?: string): Promise<IncomingMove> {
    if (imageTree === undefined || imageTree === move.imageTree) return move;
    const changed = { ...move, imageTree };
    await this.save(changed);
    return changed;
  }

  private async verifyLanding(moveId: MoveId, manifest: MoveManifest): Promise<void> {
    const { storage } = this.ports;
    const landed = new Map((await storage.listLanding(moveId)).map((each) => [each.item, each]));
    const expected = [
      ...manifest.snapshots.map(({ uuid }) => ({ kind: 'snapshot' as const, uuid })),
      ...(manifest.final ? [{ kind: 'delta' as const, uuid: manifest.final.uuid }] : []),
      ...(manifest.persistence
        ? [{ kind: 'persistence' as const, uuid: manifest.persistence.uuid }]
        : []),
    ];
    const fail = (reason: string): never => {
      throw MoveErrors.MOVE_VERIFY_FAILED({ reason });
    };
    if (!manifest.final) fail('the manifest names no final picture');
    for (const { kind, uuid } of expected) {
      const item = landingItem({ kind, name: uuid });
      const found = landed.get(item) ?? fail(`${item} is missing`);
      if (found.receivedUuid !== uuid) fail(`${item} has received UUID ${found.receivedUuid}`);
      if (!found.readOnly) fail(`${item} can be written`);
    }
    const { imageDigest } = manifest;
    if (imageDigest !== undefined && (await storage.imagePath(imageDigest)) === undefined) {
      fail(`image ${imageDigest} is missing`);
    }
  }

  private save(move: IncomingMove): Promise<void> {
    return this.ports.journal.saveIncoming({ ...move, updatedAt: this.ports.clock.now() });
  }
}

function planOf(manifest: MoveManifest, quotaBytes: number): ActivationPlan {
  const { final, persistence } = manifest;
  if (!final)
    throw MoveErrors.MOVE_VERIFY_FAILED({ reason: 'the manifest names no final picture' });
  return {
    snapshots: manifest.snapshots.map(({ uuid, ...facts }) => ({
      item: landingItem({ kind: 'snapshot', name: uuid }),
      ...facts,
    })),
    live: landingItem({ kind: 'delta', name: final.uuid }),
    ...(persistence && {
      persistence: landingItem({ kind: 'persistence', name: persistence.uuid }),
    }),
    quotaBytes,
  };
}

function viewOf({ code, message, status, retryable }: CodedErrorJson): CodedErrorView {
  return { code, message, status, retryable };
}

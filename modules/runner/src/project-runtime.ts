import { stat } from 'node:fs/promises';
import {
  KeyedLock,
  SingleFlight,
  toCodedError,
  type Clock,
  type CodedError,
  type Logger,
} from '@rookery/core';
import type { Progress, ProjectId, ProjectState } from '@rookery/core/contract';
import type { StorageDriver } from '@rookery/storage/contract';
import type { ContainerDriver, ContainerExtras, ContainerStatus } from './container.driver.js';
import { refuseBusy } from './fence-guard.js';
import type { ImageStore, ResolvedImage } from './image/image.store.js';
import { parseImageRef } from './image/image-ref.js';
import { ListenerWatch } from './listener-watch.js';
import { listenersAwaited } from './listeners.js';
import {
  isRescue,
  type ProjectChange,
  type ProjectRecord,
  type ProjectStore,
} from './project.store.js';
import { RunnerErrors } from './runner.errors.js';

/** From each state, where a project may go. */
const transitions: Readonly<Record<ProjectState, readonly ProjectState[]>> = {
  created: ['created', 'starting', 'stopping', 'stopped', 'archived', 'error'],
  starting: ['starting', 'running', 'stopping', 'stopped', 'error'],
  running: ['running', 'starting', 'stopping', 'stopped', 'error'],
  stopping: ['stopping', 'stopped', 'error'],
  stopped: ['stopped', 'starting', 'archived', 'error'],
  archived: ['archived', 'stopped', 'error'],
  error: ['error', 'created', 'starting', 'stopping', 'stopped', 'archived'],
};

export interface StartOptions {
  readonly onProgress?: ((progress: Progress) => void) | undefined;
  /** The move that holds the fence puts things back: it may start what it has stopped. */
  readonly evenFenced?: boolean;
  /** What the record says went wrong although the container runs. */
  readonly note?: CodedError;
}

export interface RuntimeDependencies {
  readonly store: ProjectStore;
  readonly storage: StorageDriver;
  readonly driver: ContainerDriver;
  readonly images: ImageStore;
  readonly log: Logger;
  readonly clock: Clock;
  readonly extras?: ContainerExtras | undefined;
}

/**
 * What happens to a project's container, one thing after another.
 *
 * A project is `created` when its volume and image are here. A start makes it `starting`, then
 * `running`; all who ask meanwhile share that start. A stop makes it `stopping` (SIGTERM, grace,
 * SIGKILL), then `stopped`. Whoever asks for a start while it stops, or for a stop while it starts,
 * waits for that to end: two things never work on one project at once. What fails makes it `error`
 * with the reason, from where it may be started or stopped again. A container that dies by itself
 * makes a `running` project `starting` again (by the reconciler), since its wish is to run. A
 * project that was moved away or archived has no container, and its record says so.
 *
 * The state changes in one place, {@link to}, which asserts the transition and writes it to disk.
 */
export class ProjectRuntime {
  private readonly locks = new KeyedLock();
  private readonly flights = new SingleFlight();
  private readonly watch: ListenerWatch;

  constructor(private readonly parts: RuntimeDependencies) {
    this.watch = new ListenerWatch(parts);
  }

  /** Looks at nothing any more. Containers go on running. */
  close(): void {
    this.watch.close();
  }

  /** Remembers what listens in a running container. */
  noteListeners(id: ProjectId): Promise<void> {
    return this.watch.note(id);
  }

  /** Runs work that no start, stop or repair of the project may overlap. */
  exclusively<T>(id: ProjectId, task: () => Promise<T>): Promise<T> {
    return this.locks.run(id, task);
  }

  /** Whether somebody works on the project, or waits to. */
  isBusy(id: ProjectId): boolean {
    return this.locks.isHeld(id);
  }

  /** Resolves when the container runs. */
  async start(id: ProjectId, options: StartOptions = {}): Promise<ProjectRecord> {
    return this.flights.run(`start ${id}`, () =>
      this.exclusively(id, () => this.startNow(id, options)),
    );
  }

  /** Resolves when the container is gone. */
  async stop(id: ProjectId, graceMs: number): Promise<ProjectRecord> {
    return this.flights.run(`stop ${id}`, () =>
      this.exclusively(id, () => this.stopNow(id, graceMs)),
    );
  }

  /** Under {@link exclusively}. */
  async startNow(id: ProjectId, options: StartOptions = {}): Promise<ProjectRecord> {
    const { driver } = this.parts;
    const record = await this.to(id, 'starting', {}, { refuseBusy: options.evenFenced !== true });
    try {
      const { image, volume } = await this.prepare(record, options.onProgress);
      const ran = await driver.listeningPorts(id);
      const status = await this.startContainer(record, image, volume.paths);
      const running = await this.to(id, 'running', {
        imageRef: image.ref,
        imageDigest: image.digest,
        ...wayTo(status),
        error: (options.note ?? image.fallbackFor)?.toJSON() ?? null,
        startsAgainBy: null,
        // A start of a container that runs already is none.
        ...(ran === undefined && {
          startedAt: this.parts.clock.now(),
          listeners: listenersAwaited(record.listeners),
        }),
      });
      this.watch.started(id);
      return running;
    } catch (error) {
      const coded = toCodedError(error);
      this.parts.log.warn({ projectId: id, code: coded.code, err: error }, 'start failed');
      await this.to(id, 'error', { error: coded.toJSON(), ...noWay, startsAgainBy: null });
      throw coded;
    }
  }

  /** A full project starts too: what its start writes into it has room until its programs run. */
  private async startContainer(
    record: ProjectRecord,
    image: ResolvedImage,
    volume: ContainerVolume,
  ): Promise<ContainerStatus> {
    const { driver, storage } = this.parts;
    const { projectId, generation, spec } = record;
    const rootId = await driver.rootIdOf(projectId);
    const extras = await this.parts.extras?.prepare(projectId, generation, rootId);
    return storage.withRoom(projectId, (room) =>
      driver.start({
        projectId,
        generation,
        volume,
        imagePath: image.rootPath,
        imageRef: image.ref,
        quota: spec.quota,
        egress: spec.egress,
        rescue: isRescue(record),
        env: { ...image.env, ...extras?.env },
        ...(extras?.runFolder !== undefined && { runFolder: extras.runFolder }),
        ...(room.scarce && { beforeRun: () => room.end() }),
      }),
    );
  }

  /** Under {@link exclusively}. */
  async stopNow(id: ProjectId, graceMs: number): Promise<ProjectRecord> {
    const before = await this.record(id);
    if (before.state === 'archived' || before.state === 'stopped') {
      await this.parts.driver.stop(id, { graceMs });
      return before;
    }
    // Before it ends: what listens now is what people wait for after the next start.
    await this.watch.note(id);
    await this.to(id, 'stopping', {});
    try {
      await this.parts.driver.stop(id, { graceMs });
    } catch (error) {
      const coded = toCodedError(error);
      await this.to(id, 'error', { error: coded.toJSON() });
      throw coded;
    }
    return this.to(id, 'stopped', { ...noWay, error: null, startedAt: null });
  }

  /** What went wrong in a container that runs on. */
  async note(id: ProjectId, error: CodedError): Promise<void> {
    const record = await this.record(id);
    if (record.state === 'running') await this.to(id, 'running', { error: error.toJSON() });
  }

  /** The record catches up with a container that survived this process. */
  async adopt(id: ProjectId, status: ContainerStatus): Promise<void> {
    const record = await this.record(id);
    const way = wayTo(status);
    const isKnown = record.address === way.address && record.linkIndex === way.linkIndex;
    if (record.state === 'running' && isKnown) return;
    if (record.state !== 'running') await this.to(id, 'starting', {});
    await this.to(id, 'running', { ...way, startsAgainBy: null });
  }

  /** The record catches up with a container that is not there and need not be. */
  async settle(id: ProjectId): Promise<void> {
    await this.to(id, 'stopped', { ...noWay, startedAt: null });
  }

  /** Volume and image of a project that begins here; makes what is missing. */
  async create(
    record: ProjectRecord,
    onProgress: StartOptions['onProgress'],
  ): Promise<{ image: ResolvedImage; volume: { paths: ContainerVolume } }> {
    const { projectId, spec } = record;
    const quotaBytes = spec.quota.diskBytes;
    const volume = await this.parts.storage.createVolume(projectId, { quotaBytes });
    return { image: await this.image(record, onProgress), volume };
  }

  /**
   * Volume and image of a project that is here. Its files are nothing to be made: a volume that is
   * not there is one that was lost, or whose disk is not mounted.
   */
  private async prepare(
    record: ProjectRecord,
    onProgress: StartOptions['onProgress'],
  ): Promise<{ image: ResolvedImage; volume: { paths: ContainerVolume } }> {
    const { projectId, spec } = record;
    const { storage } = this.parts;
    const there = await storage.volume(projectId);
    if (!there) throw RunnerErrors.VOLUME_MISSING({ projectId, missing: 'its volume' });
    if (!(await isThere(there.paths.persistence))) {
      throw RunnerErrors.VOLUME_MISSING({ projectId, missing: 'its stored messages' });
    }
    // Scratch, which is kept nowhere, may be made anew.
    const volume = await storage.createVolume(projectId, { quotaBytes: spec.quota.diskBytes });
    return { image: await this.image(record, onProgress), volume };
  }

  private image(
    { spec, imageRef, imageDigest }: ProjectRecord,
    onProgress: StartOptions['onProgress'],
  ): Promise<ResolvedImage> {
    const ref = parseImageRef(spec.image).normalized;
    // The pin is the reference's: another image is resolved anew.
    const pinned = imageRef === ref ? imageDigest : null;
    return this.parts.images.ensure(spec.image, { digest: pinned ?? spec.imageDigest, onProgress });
  }

  /** Notes a failure that leaves the container as it is. */
  async fail(id: ProjectId, error: unknown): Promise<void> {
    await this.to(id, 'error', { error: toCodedError(error).toJSON() });
  }

  private async record(id: ProjectId): Promise<ProjectRecord> {
    const record = await this.parts.store.get(id);
    if (!record) throw RunnerErrors.PROJECT_NOT_HERE({ projectId: id });
    return record;
  }

  /** The only way a project's state changes. */
  private async to(
    id: ProjectId,
    state: ProjectState,
    change: ProjectChange,
    options: { refuseBusy?: boolean } = {},
  ): Promise<ProjectRecord> {
    return this.parts.store.change(id, (record, save) => {
      if (!record) throw RunnerErrors.PROJECT_NOT_HERE({ projectId: id });
      if (state === 'starting' && record.state === 'archived') {
        throw RunnerErrors.PROJECT_IS_ARCHIVED({ projectId: id });
      }
      // Here, not only where the call came in: it may have waited while a move shut writers out.
      if (options.refuseBusy === true) refuseBusy(record);
      if (!transitions[record.state].includes(state)) {
        const { state: from } = record;
        throw RunnerErrors.PROJECT_STATE_CONFLICT({ projectId: id, from, to: state });
      }
      return save({ ...change, state });
    });
  }
}

/** How the ingress reaches a container. */
const wayTo = ({ address, linkIndex }: ContainerStatus) => ({
  address: address ?? null,
  linkIndex: linkIndex ?? null,
});
const noWay = { address: null, linkIndex: null };

type ContainerVolume = Awaited<ReturnType<StorageDriver['createVolume']>>['paths'];

async function isThere(path: string): Promise<boolean> {
  try {
    await stat(path);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false;
    throw error;
  }
}

import { SystemClock, type Clock, type Logger } from '@rookery/core';
import type {
  Fence,
  Progress,
  ProjectId,
  ProjectListener,
  ProjectSpec,
} from '@rookery/core/contract';
import type { StorageDriver } from '@rookery/storage/contract';
import type { Readable } from 'node:stream';
import { ContainerDriver, ContainerExtras, type ExecSession } from './container.driver.js';
import type { ContainerStats, ExecInput, HostProjectView } from '@rookery/fleet/contract';
import { FenceGuard, refuseBusy } from './fence-guard.js';
import type { ImageStore } from './image/image.store.js';
import { parseImageRef } from './image/image-ref.js';
import { overlayKey } from './podman/runner-id.js';
import { ProjectRuntime } from './project-runtime.js';
import { isRescue, type ProjectRecord, type ProjectStore } from './project.store.js';
import { RunnerErrors } from './runner.errors.js';

/** What the service is made from; the app wires it. */
export interface RunnerDependencies {
  readonly driver: ContainerDriver;
  readonly images: ImageStore;
  readonly storage: StorageDriver;
  readonly store: ProjectStore;
  readonly log: Logger;
  /** Default: the machine's. */
  readonly clock?: Clock;
  readonly extras?: ContainerExtras | undefined;
}

type Writers = 'shut-out' | 'let-in';
type Report = ((progress: Progress) => void) | undefined;

/** What the hub orders here comes from operations that have the project for themselves. */
const alone = { exclusive: true };
const deleteGraceMs = 5000;
const moveGraceMs = 10_000;
const otherModeGraceMs = 10_000;
/** A restore that stopped a project for longer has come to nothing, or takes too long to wait. */
const startsAgainMsMax = 15 * 60_000;

/** The projects of one host: what the hub orders, fenced by placement generation and attempt. */
export class RunnerService {
  readonly runtime: ProjectRuntime;
  private readonly guard: FenceGuard;
  private readonly clock: Clock;
  private readonly sessions = new Map<ProjectId, Set<ExecSession>>();

  constructor(private readonly parts: RunnerDependencies) {
    this.runtime = new ProjectRuntime({ ...parts, clock: parts.clock ?? new SystemClock() });
    this.clock = parts.clock ?? new SystemClock();
    this.guard = new FenceGuard(parts.store);
  }

  /** Makes the volume and fetches the image. Repeating does no harm. */
  async create(fence: Fence, spec: ProjectSpec, onProgress?: Report): Promise<HostProjectView> {
    parseImageRef(spec.image);
    const record = await this.guard.admitNew(fence, { spec });
    return this.runtime.exclusively(fence.projectId, async () => {
      try {
        const { image } = await this.runtime.create(record, onProgress);
        const pinned = await this.save(fence.projectId, {
          imageRef: image.ref,
          imageDigest: image.digest,
          error: image.fallbackFor?.toJSON() ?? null,
          ...(record.state === 'error' && { state: 'created' as const }),
        });
        return toView(pinned);
      } catch (error) {
        await this.runtime.fail(fence.projectId, error);
        throw error;
      }
    });
  }

  /**
   * One that runs in another mode (see {@link ProjectSpec}'s `rescue`) is stopped first.
   * @param listeners what listened where it ran before; for a project that never ran here.
   */
  async start(
    fence: Fence,
    spec: ProjectSpec,
    onProgress?: Report,
    listeners: readonly ProjectListener[] = [],
  ): Promise<HostProjectView> {
    parseImageRef(spec.image);
    const before = await this.parts.store.get(fence.projectId);
    const known = await this.guard.admit(fence, alone, { spec, desiredState: 'running' });
    if (before?.state === 'running' && isRescue(before) !== isRescue(known)) {
      await this.runtime.stop(fence.projectId, otherModeGraceMs);
    }
    if (known.listeners.length === 0 && listeners.length > 0) {
      await this.save(fence.projectId, { listeners });
    }
    return toView(await this.runtime.start(fence.projectId, { onProgress }));
  }

  /**
   * @param options.startsAgain the caller starts it again; until then requests wait.
   * @param options.writers whether other operations may write to it afterwards; absent: as before.
   */
  async stop(
    fence: Fence,
    graceMs: number,
    options: { readonly startsAgain?: boolean; readonly writers?: Writers | undefined } = {},
  ): Promise<HostProjectView> {
    const startsAgainBy = options.startsAgain === true ? this.clock.now() + startsAgainMsMax : null;
    await this.guard.admit(fence, alone, {
      desiredState: 'stopped',
      startsAgainBy,
      ...(options.writers === 'shut-out' && { shutOutBy: fence.operationId }),
      ...(options.writers === 'let-in' && { shutOutBy: null }),
    });
    return toView(await this.runtime.stop(fence.projectId, graceMs));
  }

  /** Removes everything of the project from this host. Unknown: nothing to do. */
  async delete(fence: Fence): Promise<void> {
    const { projectId } = fence;
    if (!(await this.parts.store.get(projectId))) return;
    await this.guard.admitRemoval(fence, { desiredState: 'stopped' });
    await this.runtime.exclusively(projectId, async () => {
      await this.parts.driver.stop(projectId, { graceMs: deleteGraceMs });
      await this.parts.storage.deleteVolume(projectId);
      // Last: what fails before is repeated, since the project is still known.
      await this.parts.store.remove(projectId);
    });
  }

  /** New quota takes effect at once; a new image at the next start; the mode is a start's alone. */
  async update(fence: Fence, spec: ProjectSpec): Promise<HostProjectView> {
    const { projectId } = fence;
    parseImageRef(spec.image);
    await this.guard.admit(fence, alone);
    return this.runtime.exclusively(projectId, async () => {
      const { storage, driver } = this.parts;
      // First what may be refused: a quota below use changes nothing.
      if (storage.capabilities.quota !== 'none') {
        await storage.setQuota(projectId, spec.quota.diskBytes);
      }
      const { rescue } = (await this.known(projectId)).spec;
      const record = await this.save(projectId, { spec: { ...spec, rescue } });
      if (record.state === 'running') {
        await driver.setEgress(projectId, spec.egress);
        await driver.update(projectId, spec.quota);
      }
      return toView(record);
    });
  }

  /** Copies a project of this host; its bytes are charged to the new one. */
  async clone(
    fence: Fence,
    from: { readonly projectId: ProjectId; readonly snapshot?: string | undefined },
    spec: ProjectSpec,
    signal?: AbortSignal,
  ): Promise<HostProjectView> {
    const { projectId } = fence;
    const origin = await this.known(from.projectId);
    refuseBusy(origin);
    await this.guard.admitNew(fence, { spec });
    return this.runtime.exclusively(projectId, async () => {
      const { storage } = this.parts;
      if (!(await storage.volume(projectId))) {
        const source = {
          projectId: from.projectId,
          ...(from.snapshot !== undefined && { snapshot: from.snapshot }),
        };
        const quotaBytes = spec.quota.diskBytes;
        await storage.cloneVolume(source, projectId, { quotaBytes, ...(signal && { signal }) });
      }
      const { imageRef, imageDigest } = origin;
      return toView(await this.save(projectId, { imageRef, imageDigest }));
    });
  }

  /**
   * Files that are here become the project's again, as the hub says with a generation that is not
   * older than theirs: their record was lost, or is of before.
   * @throws NOTHING_TO_ADOPT, STALE_GENERATION
   */
  async adopt(fence: Fence, spec: ProjectSpec): Promise<HostProjectView> {
    const { projectId } = fence;
    parseImageRef(spec.image);
    const { storage, driver } = this.parts;
    if (!(await storage.volume(projectId))) throw RunnerErrors.NOTHING_TO_ADOPT({ projectId });
    const known = await this.parts.store.get(projectId);
    // It is the host's own already: a reply was lost, or nothing was wrong.
    if (known?.generation === fence.generation) return toView(await this.guard.admit(fence, alone));
    await this.guard.admitNew(fence, { spec });
    return this.runtime.exclusively(projectId, async () => {
      await driver.stop(projectId, { graceMs: moveGraceMs });
      if (storage.capabilities.quota !== 'none') {
        // The record may have been lost together with a newer quota.
        await storage.setQuota(projectId, spec.quota.diskBytes, { allowBelowUse: true });
      }
      return toView(
        await this.save(projectId, {
          desiredState: 'stopped',
          state: 'stopped',
          error: null,
          address: null,
          linkIndex: null,
          startedAt: null,
          startsAgainBy: null,
        }),
      );
    });
  }

  async get(projectId: ProjectId): Promise<HostProjectView> {
    return toView(await this.known(projectId));
  }

  async stats(projectId: ProjectId): Promise<ContainerStats> {
    await this.running(projectId);
    return this.parts.driver.stats(projectId);
  }

  async exec(input: ExecInput): Promise<ExecSession> {
    const record = await this.running(input.projectId);
    refuseBusy(record);
    const session = await this.parts.driver.exec(input);
    const sessions = this.sessions.get(input.projectId) ?? new Set();
    this.sessions.set(input.projectId, sessions.add(session));
    void session.exit.finally(() => {
      sessions.delete(session);
      if (sessions.size === 0) this.sessions.delete(input.projectId);
    });
    return session;
  }

  async logs(
    projectId: ProjectId,
    options: { follow: boolean; tailLines?: number | undefined; signal: AbortSignal },
  ): Promise<Readable> {
    await this.known(projectId);
    const { follow, tailLines, signal } = options;
    const tail = tailLines === undefined ? {} : { tailLines };
    return this.parts.driver.logs(projectId, { follow, signal, ...tail });
  }

  // For moves and restores: the app wires these to their ports.

  /** Ends the container, also under a fence; the wish to run stays. */
  async stopContainer(projectId: ProjectId): Promise<void> {
    if (!(await this.parts.store.get(projectId))) {
      await this.parts.driver.stop(projectId, { graceMs: moveGraceMs });
      return;
    }
    this.endSessions(projectId);
    await this.runtime.stop(projectId, moveGraceMs);
  }

  /** Starts the container if it is wanted, also under a fence; resolves when it runs. */
  async ensureRunning(projectId: ProjectId, onProgress?: Report): Promise<void> {
    const record = await this.known(projectId);
    if (record.desiredState !== 'running') return;
    await this.runtime.start(projectId, { onProgress, evenFenced: true });
  }

  /** Ends every command that somebody runs in the project. */
  endSessions(projectId: ProjectId): void {
    for (const session of this.sessions.get(projectId) ?? []) session.kill();
  }

  /**
   * Runs work on the volume of a project that does not run, and keeps it from being started.
   * @throws PROJECT_NOT_STOPPED
   */
  async whileStopped<T>(projectId: ProjectId, task: () => Promise<T>): Promise<T> {
    return this.runtime.exclusively(projectId, async () => {
      const { state } = await this.known(projectId);
      if (state === 'running' || state === 'starting' || state === 'stopping') {
        throw RunnerErrors.PROJECT_NOT_STOPPED({ projectId, state });
      }
      return task();
    });
  }

  /**
   * The root filesystem of a project that does not run is its image's again; home stays.
   * @param options.keepAs snapshot that keeps what was there; absent: it is lost
   * @throws PROJECT_NOT_STOPPED, RESET_NEEDS_DISCARD
   */
  async resetRootfs(
    projectId: ProjectId,
    options: { readonly keepAs?: string | undefined },
  ): Promise<void> {
    const { keepAs } = options;
    await this.whileStopped(projectId, async () => {
      const { spec } = await this.known(projectId);
      const layer = overlayKey(parseImageRef(spec.image).normalized);
      await this.parts.storage.resetLayer(projectId, layer, keepAs === undefined ? {} : { keepAs });
    });
  }

  private async running(projectId: ProjectId): Promise<ProjectRecord> {
    const record = await this.known(projectId);
    if (record.state === 'running') return record;
    refuseBusy(record);
    throw RunnerErrors.PROJECT_NOT_RUNNING({ projectId, state: record.state });
  }

  private async known(projectId: ProjectId): Promise<ProjectRecord> {
    const record = await this.parts.store.get(projectId);
    // A restore that has not ended is not a project yet.
    if (!record || record.generation < 0) throw RunnerErrors.PROJECT_NOT_HERE({ projectId });
    return record;
  }

  private save(
    projectId: ProjectId,
    change: Parameters<Parameters<Parameters<ProjectStore['change']>[1]>[1]>[0],
  ): Promise<ProjectRecord> {
    return this.parts.store.change(projectId, (record, save) => {
      if (!record) throw RunnerErrors.PROJECT_NOT_HERE({ projectId });
      return save(change);
    });
  }
}

/** The one shape in which a host shows a project. */
export function toView(record: ProjectRecord): HostProjectView {
  const { projectId, generation, state, error, listeners } = record;
  const imageDigest = record.imageDigest ?? record.spec.imageDigest;
  const spec = { ...record.spec, ...(imageDigest !== undefined && { imageDigest }) };
  return {
    projectId,
    generation,
    state,
    spec,
    ...(error && { error: viewOf(error) }),
    ...(listeners.length > 0 && { listeners: [...listeners] }),
  };
}

function viewOf(error: NonNullable<ProjectRecord['error']>): NonNullable<HostProjectView['error']> {
  const { details, ...rest } = error;
  const known = Object.entries(details ?? {}).filter(([, value]) => value !== undefined);
  return { ...rest, details: Object.fromEntries(known) as Record<string, string> };
}

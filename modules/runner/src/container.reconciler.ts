import { backoffMs, SingleFlight, type Clock, type CodedError, type Logger } from '@rookery/core';
import type { Egress, ProjectId } from '@rookery/core/contract';
import type { ContainerDriver, ContainerEnd } from './container.driver.js';
import { planContainers, type ContainerAction, type ContainerActions } from './container.plan.js';
import type { ProjectRuntime } from './project-runtime.js';
import type { ProjectRecord, ProjectStore } from './project.store.js';
import { RunnerErrors } from './runner.errors.js';

const restartBackoff = { firstMs: 1000, maxMs: 300_000 };
/** A container that was seen to run this long has recovered: its next death is its first. */
const steadyMs = 60_000;
const stopGraceMs = 10_000;
/** Starts at once after a reboot; each is mostly waiting for podman. */
const parallelMax = 4;
/** How often it is written down what listens in the containers. */
const listenersEveryMs = 60_000;

export interface ReconcilerDependencies {
  readonly store: ProjectStore;
  readonly driver: ContainerDriver;
  readonly runtime: ProjectRuntime;
  readonly clock: Clock;
  readonly log: Logger;
}

interface Restarts {
  readonly count: number;
  readonly startedAt: number;
  readonly nextAt: number;
  /** When it was found dead after that start; none: it runs, or nobody has looked. */
  readonly endedAt?: number;
}

/**
 * Makes the containers what the records say: adopts those that survived this process, starts what
 * died while it should run, stops what should not be there. Takes no input; {@link run} compares
 * everything, on a timer or when nudged.
 */
export class ContainerReconciler {
  private readonly flights = new SingleFlight();
  private listenersNotedAt = -Infinity;
  private readonly restarts = new Map<ProjectId, Restarts>();

  constructor(private readonly parts: ReconcilerDependencies) {}

  /**
   * Once, before the host takes calls: what a dead process has left of projects that are not here,
   * mounts and links without a container included.
   */
  async sweep(): Promise<void> {
    const { store, driver, log } = this.parts;
    await this.forgetWays();
    const keep = (await store.list()).map(({ projectId }) => projectId);
    const strays = await driver.removeStrays(keep);
    if (strays.length > 0) log.warn({ strays }, 'removed what unknown projects left');
  }

  /**
   * After a reboot the kernel numbers links and the host gives out addresses from the start again:
   * what a record says of a container that is gone may be another project's by the next start.
   */
  private async forgetWays(): Promise<void> {
    const { store, driver } = this.parts;
    const containers = new Map((await driver.list()).map((one) => [one.projectId, one]));
    for (const { projectId } of await store.list()) {
      const container = containers.get(projectId);
      await store.change(projectId, (record, save) => {
        if (!record || (record.address === null && record.linkIndex === null)) return;
        const { address, linkIndex } = container?.state === 'running' ? container : {};
        if (record.address === address && record.linkIndex === (linkIndex ?? null)) return;
        save({ address: null, linkIndex: null });
      });
    }
  }

  /** Simultaneous calls share one run. @returns what was done. */
  run(): Promise<ContainerAction[]> {
    return this.flights.run('run', () => this.reconcile());
  }

  private async reconcile(): Promise<ContainerAction[]> {
    const { store, driver, log } = this.parts;
    await this.repairNetwork();
    const containers = await driver.list();
    const records = await store.list();
    const plan = planContainers(records, containers);
    const done: ContainerAction[] = [];
    const queue = [...plan];
    const worker = async (): Promise<void> => {
      for (let action = queue.shift(); action; action = queue.shift()) {
        const { kind, projectId } = action;
        try {
          if (await this.performIfStillDue(action)) done.push(action);
        } catch (error) {
          log.warn({ err: error, kind, projectId }, 'reconciling a container failed');
        }
      }
    };
    await Promise.all(Array.from({ length: parallelMax }, worker));
    for (const record of records) {
      await this.apart(record.projectId, () => this.noteMemoryKills(record));
    }
    await this.removeStrays();
    await this.noteListeners();
    return done;
  }

  /** One project's trouble is not the others'. */
  private async apart(projectId: ProjectId, task: () => Promise<void>): Promise<void> {
    try {
      await task();
    } catch (error) {
      this.parts.log.warn({ err: error, projectId }, 'looking after a project failed');
    }
  }

  private async repairNetwork(): Promise<void> {
    const { store, driver, log } = this.parts;
    const egressOf = async (): Promise<Map<ProjectId, Egress>> => {
      const policies = new Map<ProjectId, Egress>();
      for (const { projectId, spec } of await store.list()) {
        if (spec.egress) policies.set(projectId, spec.egress);
      }
      return policies;
    };
    try {
      const done = await driver.repairNetwork(egressOf);
      if (done.length > 0) log.warn({ done }, 'mended the projects’ network');
    } catch (error) {
      log.warn({ err: error }, 'mending the projects’ network failed');
    }
  }

  /** A container that dies gives no notice: what listens in it is known from before. */
  private async noteListeners(): Promise<void> {
    const { driver, runtime, clock } = this.parts;
    if (clock.now() < this.listenersNotedAt + listenersEveryMs) return;
    this.listenersNotedAt = clock.now();
    for (const { projectId, state } of await driver.list()) {
      if (state === 'running') await this.apart(projectId, () => runtime.noteListeners(projectId));
    }
  }

  private async removeStrays(): Promise<void> {
    const { store, driver, runtime, log } = this.parts;
    for (const projectId of await driver.known()) {
      if (await store.get(projectId)) continue;
      // Asked for again under its lock: a project may have come after the list was read.
      const forget = async (): Promise<void> => {
        if (await store.get(projectId)) return;
        this.restarts.delete(projectId);
        await driver.forget(projectId, { graceMs: stopGraceMs });
        log.info({ projectId }, 'removed what was left of a project that is not here');
      };
      await this.apart(projectId, () => runtime.exclusively(projectId, forget));
    }
  }

  /** The plan may be old by now: it is made again for this project, under its lock. */
  private async performIfStillDue(action: ContainerAction): Promise<boolean> {
    const { store, driver, runtime } = this.parts;
    const { projectId } = action;
    // Who is at it leaves it well or notes what is wrong: the others do not wait for that.
    if (runtime.isBusy(projectId)) return false;
    return runtime.exclusively(projectId, async () => {
      const record = await store.get(projectId);
      const containers = await driver.list();
      const [again] = planContainers(record ? [record] : [], containers);
      if (again?.kind !== action.kind) return false;
      return this.perform(again);
    });
  }

  private async perform(action: ContainerAction): Promise<boolean> {
    const handler = this.handlers[action.kind] as (action: ContainerAction) => Promise<boolean>;
    return handler(action);
  }

  private readonly handlers: {
    readonly [K in keyof ContainerActions]: (input: ContainerActions[K]) => Promise<boolean>;
  } = {
    adopt: async ({ projectId, status }) => {
      await this.parts.runtime.adopt(projectId, status);
      return true;
    },
    start: async ({ projectId, ended }) => {
      if (!this.mayRestart(projectId)) return false;
      const note = ended && (await this.endNote(projectId));
      if (note) this.parts.log.warn({ projectId, ...note.details }, note.message);
      await this.parts.runtime.startNow(projectId, note && { note });
      return true;
    },
    stop: async ({ projectId }) => {
      await this.parts.runtime.stopNow(projectId, stopGraceMs);
      return true;
    },
    settle: async ({ projectId }) => {
      await this.parts.runtime.settle(projectId);
      return true;
    },
  };

  private async endNote(projectId: ProjectId): Promise<CodedError> {
    const { store, driver, log } = this.parts;
    const end = await driver.endOf(projectId).catch((error: unknown): ContainerEnd => {
      log.warn({ err: error, projectId }, 'how a container ended is not known');
      return { outOfMemory: false };
    });
    const { exit = 'unknown' } = end;
    const record = await store.get(projectId);
    // Not every conmon leaves its note of it; what was counted while the container ran is known here.
    const outOfMemory = end.outOfMemory || (record !== undefined && notedKills(record) > 0);
    const before = record?.error;
    const earlier = before?.code === 'CONTAINER_ENDED' ? Number(before.details?.['restarts']) : 0;
    const restarts = earlier + 1;
    const reason = outOfMemory ? 'out of memory' : 'not by the host';
    const details = { projectId, exit, reason, outOfMemory, restarts };
    return RunnerErrors.CONTAINER_ENDED({ ...details, at: this.parts.clock.now() });
  }

  private async noteMemoryKills(planned: ProjectRecord): Promise<void> {
    const { store, driver, runtime, clock, log } = this.parts;
    const { projectId } = planned;
    if (planned.state !== 'running') return;
    const kills = await driver.memoryKills(projectId);
    if (kills === 0) return;
    await runtime.exclusively(projectId, async () => {
      const record = await store.get(projectId);
      if (record?.state !== 'running' || notedKills(record) >= kills) return;
      const { memoryBytes } = record.spec.quota;
      const details = { projectId, kills, memoryBytes, outOfMemory: true, at: clock.now() };
      log.warn(details, 'programs of a project were killed for want of memory');
      await runtime.note(projectId, RunnerErrors.PROGRAM_OUT_OF_MEMORY(details));
    });
  }

  /** Later each time that it died soon. The wait before a start is no time that it ran. */
  private mayRestart(projectId: ProjectId): boolean {
    const now = this.parts.clock.now();
    const before = this.restarts.get(projectId);
    const endedAt = before?.endedAt ?? now;
    if (before && now < before.nextAt) {
      this.restarts.set(projectId, { ...before, endedAt });
      return false;
    }
    const diedSoon = before !== undefined && endedAt - before.startedAt < steadyMs;
    const count = diedSoon ? before.count + 1 : 0;
    const nextAt = now + restartBackoff.firstMs + backoffMs(count, restartBackoff);
    this.restarts.set(projectId, { count, startedAt: now, nextAt });
    return true;
  }
}

function notedKills({ error }: ProjectRecord): number {
  return error?.code === 'PROGRAM_OUT_OF_MEMORY' ? Number(error.details?.['kills']) : 0;
}

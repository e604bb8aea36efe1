import { isDeepStrictEqual } from 'node:util';
import type { Clock, Logger } from '@rookery/core';
import type { ProjectId, ProjectListener } from '@rookery/core/contract';
import type { ContainerDriver } from './container.driver.js';
import { listenersSeen, startMsMax } from './listeners.js';
import type { ProjectRecord, ProjectStore } from './project.store.js';

const tickMs = 100;
/** Looks at a project become rarer by this factor, down to one in so many milliseconds. */
const slower = 1.3;
const lookMsMax = 2_000;
/** Once all that listened before is up, this long after the start nobody looks any more. */
const settledMs = 15_000;

export interface ListenerWatchDependencies {
  readonly store: ProjectStore;
  readonly driver: ContainerDriver;
  readonly clock: Clock;
  readonly log: Logger;
}

/**
 * Looks which ports come up after a container was started, and how long each takes: the ingress
 * holds requests for as long. One timer looks at all projects that were started lately.
 */
export class ListenerWatch {
  private readonly watched = new Map<ProjectId, { nextAt: number; everyMs: number }>();
  private timer: NodeJS.Timeout | undefined;
  private looking = false;

  constructor(private readonly parts: ListenerWatchDependencies) {}

  started(id: ProjectId): void {
    this.watched.set(id, { nextAt: this.parts.clock.now() + tickMs, everyMs: tickMs });
    this.timer ??= setInterval(() => void this.tick(), tickMs).unref();
  }

  close(): void {
    clearInterval(this.timer);
    this.timer = undefined;
    this.watched.clear();
  }

  /** Writes down what listens now, if something runs and has changed. */
  async note(id: ProjectId): Promise<void> {
    const { store, driver, clock } = this.parts;
    const before = await store.get(id);
    if (!before || before.startedAt === null) return;
    // While it ends, what listened is what people wait for: that it is gone says nothing.
    if (before.state !== 'running') return;
    const ports = await driver.listeningPorts(id);
    const seen = (record: ProjectRecord): ProjectListener[] | undefined => {
      // Started anew meanwhile: what was seen is of another container.
      if (ports === undefined || record.startedAt !== before.startedAt) return undefined;
      if (record.state !== 'running') return undefined;
      const listeners = listenersSeen(
        record.listeners,
        ports,
        clock.now() - (record.startedAt ?? 0),
      );
      return isDeepStrictEqual(listeners, record.listeners) ? undefined : listeners;
    };
    // Mostly nothing is new, and then nothing is written.
    if (!seen(before)) return;
    await store.change(id, (record, save) => {
      const listeners = record && seen(record);
      if (listeners) save({ listeners });
    });
  }

  private async tick(): Promise<void> {
    if (this.looking) return;
    this.looking = true;
    const now = this.parts.clock.now();
    for (const [id, look] of this.watched) {
      if (look.nextAt > now) continue;
      look.everyMs = Math.min(lookMsMax, look.everyMs * slower);
      look.nextAt = now + look.everyMs;
      try {
        await this.note(id);
        if (await this.isOver(id, now)) this.watched.delete(id);
      } catch (error) {
        this.watched.delete(id);
        this.parts.log.warn({ err: error, projectId: id }, 'what listens cannot be told');
      }
    }
    this.looking = false;
    if (this.watched.size === 0) this.close();
  }

  private async isOver(id: ProjectId, now: number): Promise<boolean> {
    const record = await this.parts.store.get(id);
    if (!record || record.startedAt === null) return true;
    const ageMs = now - record.startedAt;
    if (ageMs >= startMsMax) return true;
    return ageMs >= settledMs && record.listeners.every(({ isUp }) => isUp);
  }
}

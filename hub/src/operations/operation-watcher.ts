import { Injectable, OnModuleDestroy } from '@nestjs/common';
import type { OperationView } from '@rookery/api';
import { DataSource, In } from 'typeorm';
import type { z } from 'zod';
import { Operation } from '../database/entities/operation.entity.js';
import { toOperationView } from './operation.views.js';

type View = z.input<typeof OperationView>;
type Listener = (view: View | undefined) => void;

const lookEveryMs = 250;

/** Shows live progress: one query a tick for all who watch, however many they are. */
@Injectable()
export class OperationWatcher implements OnModuleDestroy {
  private readonly listeners = new Map<string, Set<Listener>>();
  private timer: NodeJS.Timeout | undefined;
  private looking = false;

  constructor(private readonly dataSource: DataSource) {}

  onModuleDestroy(): void {
    clearInterval(this.timer);
    for (const each of this.listeners.values()) for (const listener of each) listener(undefined);
    this.listeners.clear();
  }

  /** Views as they change, first the present one; ends with the final one. */
  async *watch(operationId: string, signal: AbortSignal): AsyncGenerator<View> {
    let latest: View | undefined;
    let ended = false;
    let wake: () => void = () => undefined;
    const listener: Listener = (view) => {
      if (view === undefined) ended = true;
      else latest = view;
      wake();
    };
    const onAbort = (): void => listener(undefined);
    signal.addEventListener('abort', onAbort, { once: true });
    this.add(operationId, listener);
    try {
      let shown = '';
      while (!signal.aborted) {
        const text = JSON.stringify(latest);
        if (latest !== undefined && text !== shown) {
          shown = text;
          yield latest;
          if (latest.endedAt !== null) return;
          continue;
        }
        if (ended) return;
        await new Promise<void>((resolve) => (wake = resolve));
      }
    } finally {
      signal.removeEventListener('abort', onAbort);
      this.remove(operationId, listener);
    }
  }

  private add(operationId: string, listener: Listener): void {
    const all = this.listeners.get(operationId) ?? new Set();
    this.listeners.set(operationId, all.add(listener));
    this.timer ??= setInterval(() => void this.look(), lookEveryMs);
    void this.look();
  }

  private remove(operationId: string, listener: Listener): void {
    const all = this.listeners.get(operationId);
    all?.delete(listener);
    if (all?.size === 0) this.listeners.delete(operationId);
    if (this.listeners.size > 0) return;
    clearInterval(this.timer);
    this.timer = undefined;
  }

  private async look(): Promise<void> {
    if (this.looking) return;
    this.looking = true;
    try {
      const ids = [...this.listeners.keys()];
      const rows = await this.dataSource.manager.findBy(Operation, { id: In(ids) });
      for (const row of rows) {
        const view = toOperationView(row);
        for (const listener of this.listeners.get(row.id) ?? []) listener(view);
      }
    } catch {
      // The database is away: the next look shows what came of it.
    } finally {
      this.looking = false;
    }
  }
}

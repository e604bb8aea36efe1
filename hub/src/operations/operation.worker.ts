import { Injectable, OnApplicationBootstrap, OnModuleDestroy } from '@nestjs/common';
import { newId, type Logger } from '@rookery/core';
import { SagaExecutor } from '@rookery/move';
import { DataSource } from 'typeorm';
import {
  claimOperations,
  OperationLease,
  OperationStore,
  parkOperation,
  releaseOperation,
  type ClaimedOperation,
} from './operation.store.js';
import { WorkSignal } from './work-signal.js';
import { isOperationKind, sagaOf, type AllPorts } from './sagas.js';

const pollMs = 500;
const drainMs = 10_000;

export interface WorkerOptions {
  readonly enabled: boolean;
  /** A dead worker's operation is taken over after this. */
  readonly leaseMs: number;
  /** Operations that one process runs side by side: a slow one delays no other. */
  readonly operationsMax: number;
}

/** Claims operations and runs their sagas, as many at once as there is room for. */
@Injectable()
export class OperationWorker implements OnApplicationBootstrap, OnModuleDestroy {
  private readonly id = newId();
  private readonly stopping = new AbortController();
  private readonly running = new Map<string, Promise<void>>();
  private loop: Promise<void> = Promise.resolve();
  private readonly executor: SagaExecutor;

  constructor(
    private readonly dataSource: DataSource,
    store: OperationStore,
    private readonly ports: AllPorts,
    private readonly signal: WorkSignal,
    private readonly options: WorkerOptions,
    private readonly log: Logger,
  ) {
    this.executor = new SagaExecutor({
      store,
      retry: { firstMs: 200, maxMs: 3000, attempts: 5 },
      mustRetry: { firstMs: 300, maxMs: 10_000, attempts: 12 },
    });
  }

  onApplicationBootstrap(): void {
    if (this.options.enabled) this.loop = this.run();
  }

  /** What runs stops between two effects and gives its lease back. */
  async onModuleDestroy(): Promise<void> {
    this.stopping.abort();
    this.signal.ring();
    await this.loop;
    const deadline = new Promise((resolve) => setTimeout(resolve, drainMs).unref());
    await Promise.race([Promise.all(this.running.values()), deadline]);
  }

  private async run(): Promise<void> {
    while (!this.stopping.signal.aborted) {
      const full = await this.claim();
      if (!full) await this.signal.wait(pollMs);
    }
  }

  /** @returns true when there may be more to claim at once. */
  private async claim(): Promise<boolean> {
    const limit = this.options.operationsMax - this.running.size;
    if (limit <= 0) return false;
    try {
      const { leaseMs } = this.options;
      const claimed = await claimOperations(this.dataSource, this.id, { leaseMs, limit });
      for (const operation of claimed) this.begin(operation);
      return claimed.length === limit;
    } catch (error) {
      if (!this.stopping.signal.aborted) this.log.error({ err: error }, 'claiming failed');
      return false;
    }
  }

  private begin(operation: ClaimedOperation): void {
    const work = this.work(operation)
      .catch((error: unknown) => {
        // The lease runs out and another worker tries again.
        this.log.error({ err: error, operationId: operation.id }, 'an operation broke off');
      })
      .finally(() => {
        this.running.delete(operation.id);
        this.signal.ring();
      });
    this.running.set(operation.id, work);
  }

  private async work(operation: ClaimedOperation): Promise<void> {
    const { id, kind, attempt, claim } = operation;
    const lease = new OperationLease(this.dataSource, id, attempt, claim, this.options.leaseMs);
    // A newer hub's kind is left to it.
    if (!isOperationKind(kind)) return;
    const { signal } = this.stopping;
    const outcome = await this.executor.run(sagaOf(kind), this.ports, lease, { signal });
    const problem = 'error' in outcome ? outcome.error : undefined;
    this.log.info(
      { operationId: id, kind, attempt, outcome: outcome.status, problem },
      'operation',
    );
    if (outcome.status === 'waiting') await parkOperation(this.dataSource, operation);
    if (outcome.status === 'interrupted' || outcome.status === 'stuck') {
      await releaseOperation(this.dataSource, lease);
    }
  }
}

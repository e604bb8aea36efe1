import assert from 'node:assert/strict';
import { CodedError, newId, type CodedErrorJson } from '@rookery/core';
import { newSagaRecord, SagaExecutor } from '../saga/saga.executor.js';
import type { SagaOutcome } from '../saga/saga.ports.js';
import type { Saga, SagaTypes, Step, StepContext } from '../saga/saga.js';
import { MemorySagaStore } from './memory-saga-store.js';

/** What one torture case runs in; made anew for each. */
export interface TortureWorld<T extends SagaTypes> {
  readonly ports: T['ports'];
  readonly input: T['input'];
  /** Asserts that the world is as the outcome says: done, or as if nothing had happened. */
  check(outcome: SagaOutcome<T['result']>): Promise<void>;
  close?(): Promise<void>;
}

export interface TortureCase {
  readonly name: string;
  readonly run: () => Promise<void>;
}

/** What happens to one `do` or `undo`; gets the real one, and how often it was called. */
type Fault<T extends SagaTypes> = (call: {
  readonly real: () => Promise<unknown>;
  readonly context: StepContext<T>;
  readonly count: number;
}) => Promise<unknown>;

interface Faults<T extends SagaTypes> {
  readonly do?: Readonly<Record<string, Fault<T>>>;
  readonly undo?: Readonly<Record<string, Fault<T>>>;
}

type Ending = SagaOutcome<unknown>['status'];

/**
 * Every way in which a saga may be hurt: each step fails before its effect and after it (its reply
 * is lost), fatally and passingly, runs twice, is killed and resumed, is canceled, and is finished
 * late by a worker that was thought dead; each undo likewise. After each case the world is checked.
 *
 * ```ts
 * for (const { name, run } of sagaTorture({ saga, world })) it(name, run);
 * ```
 */
export function sagaTorture<T extends SagaTypes>(options: {
  readonly saga: Saga<T>;
  readonly world: () => Promise<TortureWorld<T>>;
}): TortureCase[] {
  const { saga } = options;
  const cases: TortureCase[] = [];
  const add = (name: string, run: (bench: Bench<T>) => Promise<void>): void => {
    cases.push({
      name,
      run: async () => {
        const bench = new Bench(saga, await options.world());
        try {
          await run(bench);
        } finally {
          await bench.world.close?.();
        }
      },
    });
  };
  add('runs through', (bench) => bench.expect({}, 'succeeded'));
  saga.steps.forEach((step, index) => addStepCases(add, saga, step, index));
  const failing = saga.steps[Math.min(saga.pointOfNoReturn, saga.steps.length - 1)]!;
  for (const step of saga.steps) {
    if (typeof step.undo === 'function') addUndoCases(add, step, failing);
  }
  return cases;
}

type Add<T extends SagaTypes> = (name: string, run: (bench: Bench<T>) => Promise<void>) => void;

function addStepCases<T extends SagaTypes>(
  add: Add<T>,
  saga: Saga<T>,
  step: Step<T>,
  index: number,
): void {
  const { name } = step;
  const atPoint = index === saga.pointOfNoReturn;
  const after = index > saga.pointOfNoReturn;
  const on = (fault: Fault<T>): Faults<T> => ({ do: { [name]: fault } });
  add(`${name} fails before its effect`, (bench) =>
    bench.expect(on(once(failBefore(false))), after ? 'succeeded' : 'failed'),
  );
  add(`${name} fails after its effect`, (bench) =>
    bench.expect(on(once(failAfter(false))), after || atPoint ? 'succeeded' : 'failed'),
  );
  add(`${name} fails passingly before its effect`, (bench) =>
    bench.expect(on(once(failBefore(true))), 'succeeded'),
  );
  add(`${name} fails passingly after its effect`, (bench) =>
    bench.expect(on(once(failAfter(true))), 'succeeded'),
  );
  add(`${name} runs twice`, (bench) => bench.expect(on(twice), 'succeeded'));
  for (const when of ['before', 'after'] as const) {
    add(`${name} is killed ${when} its effect and resumed`, async (bench) => {
      await bench.killed(on(once(bench.kill(when))));
      await bench.expect({}, 'succeeded');
    });
  }
  add(`${name} is canceled`, (bench) => {
    const late = after || atPoint;
    return bench.expect(on(once(bench.cancel(late))), late ? 'succeeded' : 'canceled');
  });
  add(`${name} is finished by a dead worker after its successor succeeded`, async (bench) => {
    await bench.late(on(once(bench.overtake({}, 'succeeded'))));
  });
  if (!after) {
    add(`${name} is finished by a dead worker after its successor gave up`, async (bench) => {
      const giveUp = on(failBefore(false));
      await bench.late(on(once(bench.overtake(giveUp, 'failed'))));
    });
  }
  if (after) {
    add(`${name} fails for ever, is stuck, and is resumed`, async (bench) => {
      await bench.expect(on(failBefore(false)), 'stuck', { check: false });
      await bench.expect({}, 'succeeded');
    });
  }
}

function addUndoCases<T extends SagaTypes>(add: Add<T>, step: Step<T>, failing: Step<T>): void {
  const { name } = step;
  const on = (fault: Fault<T>): Faults<T> => ({
    do: { [failing.name]: failBefore(false) },
    undo: { [name]: fault },
  });
  add(`undo of ${name} fails once before its effect`, (bench) =>
    bench.expect(on(once(failBefore(false))), 'failed'),
  );
  add(`undo of ${name} fails once after its effect`, (bench) =>
    bench.expect(on(once(failAfter(false))), 'failed'),
  );
  add(`undo of ${name} runs twice`, (bench) => bench.expect(on(twice), 'failed'));
  for (const when of ['before', 'after'] as const) {
    add(`undo of ${name} is killed ${when} its effect and resumed`, async (bench) => {
      await bench.killed(on(once(bench.kill(when))));
      await bench.expect({}, 'failed');
    });
  }
  add(`undo of ${name} fails for ever, is stuck, and is resumed`, async (bench) => {
    await bench.expect(on(failBefore(false)), 'stuck', { check: false });
    await bench.expect({}, 'failed');
  });
}

/** One operation in one world. */
class Bench<T extends SagaTypes> {
  readonly store = new MemorySagaStore();
  readonly operationId = newId();
  private killer = new AbortController();

  constructor(
    private readonly saga: Saga<T>,
    readonly world: TortureWorld<T>,
  ) {
    this.store.create(newSagaRecord(saga, { operationId: this.operationId, input: world.input }));
  }

  async expect(faults: Faults<T>, status: Ending, options = { check: true }): Promise<void> {
    const outcome = await this.run(faults);
    assert.equal(outcome.status, status, `ended with ${JSON.stringify(outcome)}`);
    if (options.check) await this.world.check(outcome);
  }

  /** Runs until a `kill` fault strikes. */
  async killed(faults: Faults<T>): Promise<void> {
    const outcome = await this.run(faults);
    assert.equal(outcome.status, 'interrupted', `ended with ${JSON.stringify(outcome)}`);
    this.killer = new AbortController();
  }

  /** Runs a worker that is overtaken: it must end without a say in the outcome. */
  async late(faults: Faults<T>): Promise<void> {
    const outcome = await this.run(faults);
    assert.equal(outcome.status, 'interrupted', `the dead worker ended with ${outcome.status}`);
    const record = await this.store.load(this.operationId);
    await this.world.check(
      record?.status === 'succeeded'
        ? { status: 'succeeded', result: record.result }
        : { status: 'failed', error: record?.error ?? missing },
    );
  }

  kill(when: 'before' | 'after'): Fault<T> {
    return async ({ real }) => {
      if (when === 'after') await real();
      this.killer.abort();
      throw new Error('killed');
    };
  }

  cancel(tooLate: boolean): Fault<T> {
    return async ({ real }) => {
      const asked = this.store.requestCancel(this.operationId);
      if (tooLate) {
        await assert.rejects(asked, (error) => CodedError.is(error, 'CANCEL_TOO_LATE'));
      } else await asked;
      return real();
    };
  }

  /** A successor claims the operation and ends it; only then does this worker go on. */
  overtake(faults: Faults<T>, status: Ending): Fault<T> {
    return async ({ real }) => {
      await this.expect(faults, status);
      return real();
    };
  }

  private run(faults: Faults<T>): Promise<SagaOutcome<T['result']>> {
    const executor = new SagaExecutor({
      store: this.store,
      retry: { firstMs: 1, maxMs: 1, attempts: 3 },
      mustRetry: { firstMs: 1, maxMs: 1, attempts: 3 },
      // Renewal would find out early that a worker was overtaken; here it must do no harm late.
      renewAfter: 0.9,
    });
    const lease = this.store.claim(this.operationId);
    const { signal } = this.killer;
    return executor.run(hurt(this.saga, faults), this.world.ports, lease, { signal });
  }
}

function hurt<T extends SagaTypes>(saga: Saga<T>, faults: Faults<T>): Saga<T> {
  const counts = new Map<string, number>();
  const strike = (key: string, fault: Fault<T>, context: StepContext<T>, real: () => unknown) => {
    const count = (counts.get(key) ?? 0) + 1;
    counts.set(key, count);
    return fault({ real: async () => real(), context, count });
  };
  const steps = saga.steps.map((step): Step<T> => {
    const onDo = faults.do?.[step.name];
    const onUndo = faults.undo?.[step.name];
    const { undo } = step;
    return {
      ...step,
      do: onDo
        ? (context) =>
            strike(`do ${step.name}`, onDo, context, () => step.do(context)) as ReturnType<
              typeof step.do
            >
        : step.do,
      undo:
        onUndo && typeof undo === 'function'
          ? async (context) => {
              await strike(`undo ${step.name}`, onUndo, context, () => undo(context));
            }
          : undo,
    };
  });
  return { ...saga, steps };
}

/** The fault strikes the first time only. */
function once<T extends SagaTypes>(fault: Fault<T>): Fault<T> {
  return (call) => (call.count === 1 ? fault(call) : call.real());
}

function failBefore<T extends SagaTypes>(retryable: boolean): Fault<T> {
  return async () => {
    throw torture(retryable);
  };
}

function failAfter<T extends SagaTypes>(retryable: boolean): Fault<T> {
  return async ({ real }) => {
    await real();
    throw torture(retryable);
  };
}

const twice = async ({ real }: { real: () => Promise<unknown> }): Promise<unknown> => {
  await real();
  return real();
};

const missing: CodedErrorJson = {
  code: 'INTERNAL',
  message: 'no error is recorded',
  status: 500,
  retryable: false,
};

function torture(retryable: boolean): CodedError {
  return new CodedError({
    code: 'TORTURE',
    message: 'The torture struck here.',
    status: 500,
    retryable,
  });
}

import { describe, expect, it } from '@jest/globals';
import { CodedError, CoreErrors, newId, waitFor } from '@rookery/core';
import {
  LeaseGuard,
  never,
  newSagaRecord,
  nothing,
  saga,
  SagaExecutor,
  step,
  StepWaits,
  type SagaOutcome,
  type SagaRecord,
  type StepContext,
} from '@rookery/move';
import { MemorySagaStore, sagaTorture, type TortureWorld } from '@rookery/move/testing';

/** Two places and a token between them: it must be in exactly one, and nothing lies around. */
class Ledger {
  readonly marks = new Set<string>();
  committed = false;
  barred = false;
  attempt = 0;

  act(attempt: number, change: () => void): void {
    if (attempt < this.attempt) {
      throw CoreErrors.STALE_ATTEMPT({ given: attempt, current: this.attempt });
    }
    this.attempt = attempt;
    change();
  }
}

interface LedgerTypes {
  readonly ports: { readonly ledger: Ledger };
  readonly input: { readonly name: string };
  readonly state: { readonly reserved?: string; readonly receipt?: number };
  readonly result: number;
}
type Ctx = StepContext<LedgerTypes>;

const mark =
  (name: string) =>
  async ({ ports, attempt }: Ctx): Promise<void> =>
    ports.ledger.act(attempt, () => void ports.ledger.marks.add(name));
const unmark =
  (name: string) =>
  async ({ ports, attempt }: Ctx): Promise<void> =>
    ports.ledger.act(attempt, () => void ports.ledger.marks.delete(name));

const transfer = saga<LedgerTypes>(
  'transfer',
  [
    step('reserve', {
      do: async (context) => {
        await mark('reserved')(context);
        return { reserved: context.input.name };
      },
      undo: unmark('reserved'),
    }),
    step('fill', { do: mark('filled'), undo: unmark('filled') }),
    step('look', {
      do: async ({ ports }) => {
        if (!ports.ledger.marks.has('filled')) throw new Error('not filled');
      },
      undo: nothing('reads only'),
    }),
    step('commit', {
      do: async ({ ports: { ledger }, attempt }) => {
        ledger.act(attempt, () => {
          if (ledger.barred) throw new Error('barred');
          ledger.committed = true;
        });
        return { receipt: 7 };
      },
      pointOfNoReturn: async ({ ports: { ledger }, attempt }) => {
        ledger.act(attempt, () => (ledger.barred = !ledger.committed));
        return ledger.committed ? 'forward' : 'undo';
      },
      undo: never('it is theirs'),
    }),
    step('sweep', {
      do: async (context) => {
        await unmark('reserved')(context);
        await unmark('filled')(context);
      },
      undo: never('it is theirs'),
    }),
  ],
  { start: () => ({}), result: ({ receipt }) => receipt ?? -1 },
);

const world = async (): Promise<TortureWorld<LedgerTypes>> => {
  const ledger = new Ledger();
  return {
    ports: { ledger },
    input: { name: 'x' },
    check: async (outcome) => {
      expect(ledger.committed).toBe(outcome.status === 'succeeded');
      expect([...ledger.marks]).toEqual([]);
      if (outcome.status === 'succeeded') expect(outcome.result).toBe(7);
    },
  };
};

describe('a saga under torture', () => {
  for (const { name, run } of sagaTorture({ saga: transfer, world })) it(name, run);
});

const fast = { firstMs: 1, maxMs: 2, attempts: 3 };

function bench() {
  const store = new MemorySagaStore();
  const operationId = newId();
  const ledger = new Ledger();
  const executor = new SagaExecutor({ store, retry: fast, mustRetry: fast });
  store.create(newSagaRecord(transfer, { operationId, input: { name: 'x' } }));
  return { store, operationId, ledger, executor };
}

describe('SagaExecutor', () => {
  it('answers with the same result when an operation that ended is run again', async () => {
    const { store, operationId, ledger, executor } = bench();
    const run = () => executor.run(transfer, { ledger }, store.claim(operationId));
    const first = await run();
    ledger.committed = false;
    expect(await run()).toEqual(first);
    expect(ledger.committed).toBe(false);
  });

  it.each(['failed', 'canceled'] as const)(
    'says again that an operation %s, and why',
    async (status) => {
      const { store, operationId, ledger, executor } = bench();
      const lease = store.claim(operationId);
      const record = { ...(await store.load(operationId))!, attempt: lease.attempt, status };
      const error = boom('WHY').toJSON();
      await store.save({ ...record, error });
      expect(await executor.run(transfer, { ledger }, lease)).toEqual({ status, error });
      await store.save(record);
      expect(await executor.run(transfer, { ledger }, lease)).toMatchObject({
        status,
        error: { code: 'INTERNAL' },
      });
      expect(ledger.attempt).toBe(0);
    },
  );

  it('lets an operation be canceled from its first step on, unless that is the commit', () => {
    const options = { start: () => ({}), result: () => 0 };
    const isCancelable = (from: number): boolean => {
      const rest = saga<LedgerTypes>('rest', transfer.steps.slice(from), options);
      return newSagaRecord(rest, { operationId: newId(), input: { name: 'x' } }).cancelable;
    };
    expect([0, 2, 3].map(isCancelable)).toEqual([true, true, false]);
  });

  it('refuses an operation that nobody knows, and a step that it does not have', async () => {
    const { store, operationId, ledger, executor } = bench();
    const lease = store.claim(operationId);
    const stranger: LeaseGuard = Object.assign(Object.create(LeaseGuard.prototype) as LeaseGuard, {
      ...lease,
      operationId: newId(),
    });
    await expect(executor.run(transfer, { ledger }, stranger)).rejects.toMatchObject({
      code: 'OPERATION_UNKNOWN',
    });
    const record = (await store.load(operationId)) as SagaRecord;
    await store.save({ ...record, attempt: lease.attempt, step: 'renamed' });
    await expect(executor.run(transfer, { ledger }, lease)).rejects.toMatchObject({
      code: 'SAGA_STEP_UNKNOWN',
    });
  });

  it('stops at once when the lease is lost, while the step hangs', async () => {
    const { store, operationId, ledger, executor } = bench();
    let entered = false;
    const hanging = {
      ...transfer,
      steps: transfer.steps.map((each) =>
        each.name === 'fill'
          ? { ...each, do: () => ((entered = true), new Promise<void>(() => undefined)) }
          : each,
      ),
    };
    const running = executor.run(hanging, { ledger }, store.claim(operationId, 30));
    await waitFor('the step runs', () => entered, { timeoutMs: 5000, everyMs: 2 });
    store.claim(operationId);
    expect(await running).toEqual({ status: 'interrupted' });
    expect([...ledger.marks]).toEqual(['reserved']);
  });

  it('takes the lease for lost when it cannot be renewed for its whole length', async () => {
    const { store, operationId, ledger, executor } = bench();
    const lease = store.claim(operationId, 30);
    const deaf: LeaseGuard = Object.assign(Object.create(LeaseGuard.prototype) as LeaseGuard, {
      operationId,
      attempt: lease.attempt,
      leaseMs: 30,
      renew: () => Promise.reject(new Error('the database is away')),
    });
    const hanging = {
      ...transfer,
      steps: transfer.steps.map((each) => ({
        ...each,
        do: () => new Promise<void>(() => undefined),
      })),
    };
    expect(await executor.run(hanging, { ledger }, deaf)).toEqual({ status: 'interrupted' });
  });

  it('ends a hanging step when the operation is canceled, and undoes it', async () => {
    const { store, operationId, ledger, executor } = bench();
    let entered = false;
    const hanging = {
      ...transfer,
      steps: transfer.steps.map((each) =>
        each.name === 'fill'
          ? {
              ...each,
              do: ({ signal }: Ctx) =>
                new Promise<void>((_, reject) => {
                  entered = true;
                  signal.addEventListener('abort', () => reject(new Error('socket closed')));
                }),
            }
          : each,
      ),
    };
    const running = executor.run(hanging, { ledger }, store.claim(operationId, 30));
    await waitFor('the step runs', () => entered, { timeoutMs: 5000, everyMs: 2 });
    await executor.cancel(operationId);
    expect(await running).toMatchObject({ status: 'canceled', error: { code: 'CANCELED' } });
    expect([...ledger.marks]).toEqual([]);
    await expect(executor.cancel(operationId)).rejects.toMatchObject({ code: 'CANCEL_TOO_LATE' });
  });

  it('goes on after another side stopped, or says canceled though nobody asked for it', async () => {
    const { store, operationId, ledger, executor } = bench();
    const answers = [
      ...Array.from({ length: 8 }, () => CoreErrors.INTERRUPTED({ reason: 'the host stops' })),
      CoreErrors.CANCELED(),
    ];
    const stopped = {
      ...transfer,
      steps: transfer.steps.map((each) =>
        each.name === 'fill'
          ? {
              ...each,
              do: async (context: Ctx) => {
                const error = answers.pop();
                if (error) throw error;
                return each.do(context);
              },
            }
          : each,
      ),
    };
    const running = executor.run(stopped, { ledger }, store.claim(operationId, 60_000));
    expect(await running).toMatchObject({ status: 'succeeded' });
    expect(answers).toEqual([]);
  });

  it('keeps the first error as the reason of an undo that is stuck', async () => {
    const { store, operationId, ledger, executor } = bench();
    const broken = {
      ...transfer,
      steps: transfer.steps.map((each) => {
        if (each.name === 'look') return { ...each, do: () => Promise.reject(boom('LOOKED')) };
        if (each.name === 'fill') return { ...each, undo: () => Promise.reject(boom('UNDOING')) };
        return each;
      }),
    };
    const outcome = await executor.run(broken, { ledger }, store.claim(operationId));
    expect(outcome).toMatchObject({ status: 'stuck', error: { code: 'UNDOING' } });
    expect(await store.load(operationId)).toMatchObject({
      status: 'stuck',
      direction: 'undoing',
      step: 'fill',
      error: { code: 'LOOKED' },
      retry: { error: { code: 'UNDOING' } },
    });
    const resumed = await executor.run(transfer, { ledger }, store.claim(operationId));
    expect(resumed).toMatchObject({ status: 'failed', error: { code: 'LOOKED' } });
    expect([...ledger.marks]).toEqual([]);
  });

  it('runs no step while the record cannot be saved', async () => {
    const { store, operationId, ledger, executor } = bench();
    const lease = store.claim(operationId);
    store.save = () => Promise.reject(new Error('disk full'));
    expect(await executor.run(transfer, { ledger }, lease)).toEqual({ status: 'interrupted' });
    expect(ledger.attempt).toBe(0);
  });

  it('undoes everything of a saga without a point of no return, and tells the ending', async () => {
    const endings: string[] = [];
    const reversible = saga<LedgerTypes>(
      'reversible',
      [
        step('one', { do: mark('one'), undo: unmark('one') }),
        step('two', { do: () => Promise.reject(boom('TWO')), undo: unmark('two') }),
      ],
      {
        start: () => ({}),
        result: () => 0,
        ended: async (_, ending) => void endings.push(ending),
      },
    );
    const { store, ledger, executor } = bench();
    const operationId = newId();
    store.create(newSagaRecord(reversible, { operationId, input: { name: 'y' } }));
    const outcome: SagaOutcome<number> = await executor.run(
      reversible,
      { ledger },
      store.claim(operationId),
    );
    expect(outcome).toMatchObject({ status: 'failed', error: { code: 'TWO' } });
    expect(endings).toEqual(['failed']);
    expect([...ledger.marks]).toEqual([]);
  });

  it('shows progress, the newest, without waiting for it', async () => {
    const { store, ledger, executor } = bench();
    const operationId = newId();
    const busy = saga<LedgerTypes>(
      'busy',
      [
        step('work', {
          do: async ({ progress }) => {
            for (let done = 0; done <= 1000; done += 1) {
              progress({ step: 'send', done, unit: 'bytes' });
            }
            await waitFor('the last is shown', () => store.progress.at(-1)?.done === 1000, {
              timeoutMs: 5000,
              everyMs: 1,
            });
          },
          undo: nothing('a test'),
        }),
      ],
      { start: () => ({}), result: () => 0 },
    );
    store.create(newSagaRecord(busy, { operationId, input: { name: 'y' } }));
    expect(await executor.run(busy, { ledger }, store.claim(operationId))).toMatchObject({
      status: 'succeeded',
    });
    expect(store.progress.length).toBeLessThan(10);
  });
});

describe('saga()', () => {
  const options = { start: () => ({}), result: () => 0 };
  const noop = async (): Promise<void> => undefined;

  it.each([
    ['without steps', 'has no steps', () => saga<LedgerTypes>('s', [], options)],
    [
      'with two steps of one name',
      'same name',
      () =>
        saga<LedgerTypes>(
          's',
          [step('a', { do: noop, undo: noop }), step('a', { do: noop, undo: noop })],
          options,
        ),
    ],
    [
      'with a final step before the point of no return',
      'never be undone',
      () => saga<LedgerTypes>('s', [step('a', { do: noop, undo: never('no') })], options),
    ],
    [
      'with an undo at the point of no return',
      'its undo must be never',
      () =>
        saga<LedgerTypes>(
          's',
          [step('a', { do: noop, pointOfNoReturn: async () => 'undo', undo: noop })],
          options,
        ),
    ],
  ])('refuses a table %s', (_, why, make) => {
    expect(make).toThrow(why);
  });
});

function boom(code: string): CodedError {
  return new CodedError({ code, message: code, status: 500, retryable: false });
}

describe('a step that waits for other operations', () => {
  it('ends the run with what it saved, and is run again by the next', async () => {
    const store = new MemorySagaStore();
    let undone = 0;
    const waiting = saga<{ ports: null; input: object; state: { n?: number }; result: number }>(
      'waiting',
      [
        step('wait', {
          do: async ({ state, save }) => {
            await save({ n: (state.n ?? 0) + 1 });
            if ((state.n ?? 0) < 2) throw new StepWaits('two more');
          },
          undo: async () => void (undone += 1),
        }),
      ],
      { start: () => ({}), result: ({ n }) => n ?? 0 },
    );
    const operationId = newId();
    store.create(newSagaRecord(waiting, { operationId, input: {} }));
    const run = () => new SagaExecutor({ store }).run(waiting, null, store.claim(operationId));
    expect(await run()).toEqual({ status: 'waiting' });
    expect(await run()).toEqual({ status: 'waiting' });
    expect(await store.load(operationId)).toMatchObject({ status: 'running', state: { n: 2 } });
    expect(await run()).toEqual({ status: 'succeeded', result: 3 });
    expect(undone).toBe(0);
  });
});

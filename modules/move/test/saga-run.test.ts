import { getEventListeners } from 'node:events';
import { beforeEach, describe, expect, it } from '@jest/globals';
import { CodedError, CoreErrors, newId, SystemClock, waitFor } from '@rookery/core';
import {
  LeaseGuard,
  never,
  newSagaRecord,
  saga,
  SagaExecutor,
  step,
  type SagaEnding,
  type SagaExecutorOptions,
  type SagaOutcome,
  type SagaRecord,
  type StepContext,
} from '@rookery/move';
import { MemorySagaStore } from '@rookery/move/testing';
import { SagaErrors } from '../src/saga/saga.errors.js';

interface Types {
  readonly ports: null;
  readonly input: object;
  readonly state: { readonly one?: number; readonly two?: number };
  readonly result: number;
}
type Context = StepContext<Types>;
type Act = (context: Context) => Promise<Partial<Types['state']> | void>;

/** What is called, in order, and what each call does instead of nothing. */
const calls: string[] = [];
const acts: Record<string, Act> = {};
const act =
  (name: string) =>
  async (context: Context): Promise<never> => {
    calls.push(name);
    return (await acts[name]?.(context)) as never;
  };

/** One step that can be undone, one that commits, one that comes after. */
const three = saga<Types>(
  'three',
  [
    step('before', { do: act('before'), undo: act('undo before') }),
    step('commit', {
      do: act('commit'),
      undo: never('a test'),
      pointOfNoReturn: async (context) => (await act('bar')(context)) ?? 'undo',
    }),
    step('after', { do: act('after'), undo: never('a test') }),
  ],
  {
    start: () => ({}),
    result: ({ one = 0, two = 0 }) => one + two,
    ended: (context, ending) => act(`ended ${ending}`)({ ...context, ending } as Context),
  },
);

const fails =
  (retryable: boolean, code = 'BOOM') =>
  async (): Promise<never> => {
    throw new CodedError({ code, message: code, status: 500, retryable });
  };
const interrupted = async (): Promise<never> => {
  throw CoreErrors.INTERRUPTED({ reason: 'the host stops' });
};
const at = (name: string): number => calls.filter((call) => call === name).length;
const now = { firstMs: 0, maxMs: 0 };
const ever = { firstMs: 2 ** 30, maxMs: 2 ** 30, attempts: 3 };

describe('a run of a saga', () => {
  let store: MemorySagaStore;
  let saves: SagaRecord[];
  let operationId: string;

  beforeEach(() => {
    calls.splice(0);
    for (const name of Object.keys(acts)) delete acts[name];
    store = new MemorySagaStore();
    operationId = newId();
    store.create(newSagaRecord(three, { operationId, input: {} }));
    saves = [];
    const save = store.save.bind(store);
    store.save = async (record) => {
      saves.push(record);
      return save(record);
    };
  });

  const run = (
    options: Partial<SagaExecutorOptions> & { signal?: AbortSignal; lease?: LeaseGuard } = {},
  ): Promise<SagaOutcome<number>> => {
    const { signal, lease = store.claim(operationId), ...rest } = options;
    const policies = { retry: { ...now, attempts: 3 }, mustRetry: { ...now, attempts: 5 } };
    const executor = new SagaExecutor({ store, random: () => 1, ...policies, ...rest });
    return executor.run(three, null, lease, signal && { signal });
  };
  const recorded = async (): Promise<SagaRecord> => (await store.load(operationId))!;
  const saved = () =>
    saves.map(({ step: name, direction, cancelable, forwardOnly, status }) =>
      [name, direction, cancelable && 'cancelable', forwardOnly && 'forward only', status]
        .filter(Boolean)
        .join(' '),
    );

  it('saves before each step where it stands, and whether it can be canceled', async () => {
    acts['before'] = async () => ({ one: 1 });
    acts['after'] = async () => ({ two: 2 });
    expect(await run()).toEqual({ status: 'succeeded', result: 3 });
    expect(calls).toEqual(['before', 'commit', 'after', 'ended succeeded']);
    expect(saved()).toEqual([
      'before forward cancelable running',
      'commit forward running',
      'after forward forward only running',
      'after forward forward only succeeded',
    ]);
    expect(await recorded()).toMatchObject({ state: { one: 1, two: 2 }, result: 3, attempt: 1 });
  });

  it('saves that it turns back before it bars the commit and undoes', async () => {
    acts['commit'] = fails(false);
    expect(await run()).toMatchObject({ status: 'failed', error: { code: 'BOOM' } });
    expect(calls).toEqual(['before', 'commit', 'bar', 'undo before', 'ended failed']);
    expect(saved().slice(2)).toEqual([
      'commit undoing running',
      'before undoing running',
      'before undoing failed',
    ]);
    expect(await recorded()).toMatchObject({ status: 'failed', error: { code: 'BOOM' } });
  });

  it('goes on forward, without the error, when the commit had come through', async () => {
    acts['commit'] = async () => {
      if (at('commit') === 1) await fails(false)();
    };
    acts['bar'] = async () => 'forward' as never;
    expect(await run()).toEqual({ status: 'succeeded', result: 0 });
    expect(calls).toEqual(['before', 'commit', 'bar', 'commit', 'after', 'ended succeeded']);
    expect(saved().slice(2, 5)).toEqual([
      'commit undoing running',
      'commit forward forward only running',
      'commit forward forward only running',
    ]);
    expect(saves[3]).not.toHaveProperty('error.code');
    expect(await recorded()).not.toHaveProperty('error');
  });

  it('takes a record that is undone for no known reason for canceled', async () => {
    const record = await recorded();
    const lease = store.claim(operationId);
    await store.save({ ...record, attempt: lease.attempt, direction: 'undoing' });
    expect(await run()).toMatchObject({ status: 'canceled', error: { code: 'CANCELED' } });
    expect(calls).toEqual(['bar', 'undo before', 'ended canceled']);
    expect(await recorded()).toMatchObject({ status: 'canceled' });
  });

  describe('tries again', () => {
    it('what may pass, as often as its policy says; the step’s own comes first', async () => {
      acts['before'] = fails(true);
      expect(await run()).toMatchObject({ status: 'failed', error: { code: 'BOOM' } });
      expect(at('before')).toBe(3);
      expect(saves.map(({ retry }) => retry?.count)).toEqual([
        undefined,
        1,
        2,
        2,
        undefined,
        undefined,
      ]);
      store.create(newSagaRecord(three, { operationId, input: {} }));
      calls.splice(0);
      const { steps } = three;
      const patient = {
        ...three,
        steps: [{ ...steps[0]!, retry: { attempts: 4 } }, ...steps.slice(1)],
      };
      const executor = new SagaExecutor({ store, retry: { ...now, attempts: 3 } });
      await executor.run(patient, null, store.claim(operationId));
      expect(at('before')).toBe(4);
    });

    it('nothing else before the commit, and anything behind it until it is stuck', async () => {
      acts['before'] = fails(false);
      expect(await run()).toMatchObject({ status: 'failed' });
      expect(at('before')).toBe(1);
      store.create(newSagaRecord(three, { operationId, input: {} }));
      calls.splice(0);
      delete acts['before'];
      acts['after'] = fails(false);
      expect(await run()).toMatchObject({ status: 'stuck', error: { code: 'BOOM' } });
      expect(at('after')).toBe(5);
      expect(calls.at(-1)).toBe('ended stuck');
      expect(await recorded()).toMatchObject({
        status: 'stuck',
        retry: { count: 0, error: { code: 'BOOM' } },
      });
    });

    it('what a restart interrupted, besides its tries, but not for ever', async () => {
      acts['before'] = interrupted;
      expect(await run()).toMatchObject({ status: 'failed', error: { code: 'INTERRUPTED' } });
      expect(at('before')).toBe(50 + 3);
    });

    it('what another side calls canceled, and says that it was interrupted', async () => {
      acts['before'] = async () => {
        throw CoreErrors.CANCELED();
      };
      expect(await run()).toMatchObject({ status: 'failed', error: { code: 'INTERRUPTED' } });
      expect(at('before')).toBe(50 + 3);
    });

    it('after pauses that grow up to a maximum: steps, undos and the record', async () => {
      const pauses: number[] = [];
      const clock = new (class extends SystemClock {
        override async delay(ms: number, signal?: AbortSignal): Promise<void> {
          if (ms === 20_000) return super.delay(ms, signal);
          pauses.push(ms);
        }
      })();
      const policies = {
        retry: { firstMs: 10, maxMs: 15, attempts: 4 },
        mustRetry: { firstMs: 100, maxMs: 300, attempts: 4 },
      };
      acts['before'] = fails(true);
      acts['undo before'] = fails(false);
      expect(await run({ clock, ...policies })).toMatchObject({ status: 'stuck' });
      expect(pauses.splice(0)).toEqual([10, 15, 15, 100, 200, 300]);
      store.save = () => Promise.reject(new Error('the database is away'));
      expect(await run({ clock, ...policies })).toEqual({ status: 'interrupted' });
      expect(pauses.splice(0)).toEqual([100, 200, 300]);
      store.create(newSagaRecord(three, { operationId, input: {} }));
      store.save = MemorySagaStore.prototype.save.bind(store);
      // Without policies, the usual ones.
      const usual = { clock, retry: undefined, mustRetry: undefined } as object;
      expect(await run(usual)).toMatchObject({ status: 'stuck' });
      expect(pauses.slice(0, 5)).toEqual([200, 400, 800, 1600, 500]);
      expect(pauses).toHaveLength(4 + 7);
    });

    it('after a pause that a cancel ends, and a stop', async () => {
      acts['before'] = fails(true);
      for (const end of ['cancel', 'stop'] as const) {
        calls.splice(0);
        store.create(newSagaRecord(three, { operationId, input: {} }));
        const stop = new AbortController();
        const lease = store.claim(operationId, 30);
        const running = run({ retry: ever, lease, signal: stop.signal });
        await waitFor('it pauses', async () => (await recorded()).retry !== undefined, {
          timeoutMs: 5000,
          everyMs: 1,
        });
        if (end === 'cancel') await store.requestCancel(operationId);
        else stop.abort();
        const status = end === 'cancel' ? 'canceled' : 'interrupted';
        expect(await running).toMatchObject({ status });
        expect(at('before')).toBe(1);
        expect(at('undo before')).toBe(end === 'cancel' ? 1 : 0);
      }
    });
  });

  it('does not cancel the commit, what comes behind it, or an undo', async () => {
    let renewals = 0;
    const { attempt } = store.claim(operationId);
    const asked: LeaseGuard = Object.assign(Object.create(LeaseGuard.prototype) as LeaseGuard, {
      operationId,
      attempt,
      leaseMs: 6,
      renew: async () => {
        renewals += 1;
        return { cancelRequested: at('before') === 0 || at('commit') > 0 };
      },
    });
    const outlast: Act = async ({ signal }) => {
      const until = renewals + 3;
      await waitFor('it is renewed', () => renewals >= until, { timeoutMs: 5000, everyMs: 1 });
      signal.throwIfAborted();
    };
    for (const name of ['commit', 'after', 'ended succeeded']) acts[name] = outlast;
    expect(await run({ lease: asked })).toMatchObject({ status: 'succeeded' });

    store.create(newSagaRecord(three, { operationId, input: {} }));
    acts['before'] = async ({ signal }) => {
      await store.requestCancel(operationId);
      await waitFor('it is told', () => signal.aborted, { timeoutMs: 5000, everyMs: 1 });
      throw new Error('socket closed');
    };
    for (const name of ['bar', 'ended canceled']) acts[name] = outlast;
    // Nor does it take an undo's tries away.
    acts['undo before'] = (context) =>
      at('undo before') === 1 ? fails(false)() : outlast(context);
    const lease = store.claim(operationId, 30);
    const renew = lease.renew.bind(lease);
    lease.renew = () => {
      renewals += 1;
      return renew();
    };
    expect(await run({ lease })).toMatchObject({ status: 'canceled', error: { code: 'CANCELED' } });
    expect(calls.slice(-4)).toEqual(['bar', 'undo before', 'undo before', 'ended canceled']);
  });

  describe('that has to stop', () => {
    it('does nothing when its worker stopped before, and leaves no listener behind', async () => {
      expect(await run({ signal: AbortSignal.abort() })).toEqual({ status: 'interrupted' });
      expect([calls, saves]).toEqual([[], []]);
      const worker = new AbortController();
      expect(await run({ signal: worker.signal })).toMatchObject({ status: 'succeeded' });
      expect(getEventListeners(worker.signal, 'abort')).toEqual([]);
    });

    it('leaves everything to whoever has taken over', async () => {
      for (const lost of [
        SagaErrors.LEASE_LOST({ operationId }),
        CoreErrors.STALE_ATTEMPT({ given: 1, current: 2 }),
      ]) {
        calls.splice(0);
        saves = [];
        store.create(newSagaRecord(three, { operationId, input: {} }));
        acts['commit'] = () => Promise.reject(lost);
        expect(await run()).toEqual({ status: 'interrupted' });
        expect(calls).toEqual(['before', 'commit']);
        expect(saves).toHaveLength(2);
      }
    });

    it('shows no progress any more, nor once it has ended', async () => {
      const worker = new AbortController();
      let show!: Context['progress'];
      acts['before'] = ({ signal, progress }) =>
        new Promise((_, reject) => {
          show = progress;
          const line = { step: 'x', done: 1, unit: 'bytes' as const };
          signal.addEventListener('abort', () => {
            progress(line);
            reject(new Error('aborted'));
          });
          worker.abort();
        });
      expect(await run({ signal: worker.signal })).toEqual({ status: 'interrupted' });
      acts['before'] = async ({ progress }) => void (show = progress);
      expect(await run()).toMatchObject({ status: 'succeeded' });
      show({ step: 'x', done: 2, unit: 'bytes' });
      await new Promise(setImmediate);
      expect(store.progress).toEqual([]);
    });

    it('ends when its record cannot be saved, after as many tries as must be', async () => {
      const save = store.save.bind(store);
      let tries = 0;
      const breaks = (times: number, error: Error): void => {
        tries = 0;
        store.save = (record) => ((tries += 1) <= times ? Promise.reject(error) : save(record));
      };
      breaks(4, new Error('the database is away'));
      expect(await run()).toMatchObject({ status: 'succeeded' });
      store.create(newSagaRecord(three, { operationId, input: {} }));
      breaks(9, new Error('the database is away'));
      expect(await run()).toEqual({ status: 'interrupted' });
      expect(tries).toBe(5);
      breaks(9, SagaErrors.LEASE_LOST({ operationId }));
      expect(await run()).toEqual({ status: 'interrupted' });
      expect(tries).toBe(1);
      acts['after'] = fails(false);
      acts['ended stuck'] = fails(false);
      breaks(0, new Error());
      expect(await run()).toMatchObject({ status: 'stuck' });
      acts['after'] = async () => {
        breaks(9, new Error('the database is away'));
        return fails(false)();
      };
      expect(await run({ mustRetry: { ...now, attempts: 1 } })).toEqual({ status: 'interrupted' });
    });
  });

  it('throws what its own code throws behind the last step, and can be run again', async () => {
    const bug = new TypeError('no result');
    const broken = {
      ...three,
      result: () => {
        throw bug;
      },
    };
    const executor = new SagaExecutor({ store });
    await expect(executor.run(broken, null, store.claim(operationId))).rejects.toBe(bug);
    expect(await recorded()).toMatchObject({ status: 'running', step: 'after' });
    expect(await run()).toMatchObject({ status: 'succeeded' });
  });

  it('keeps what a step saves on its way, and gives each step its input and claim', async () => {
    const worker = new AbortController();
    acts['before'] = async ({ save }) => {
      await save({ one: 5 });
      worker.abort();
    };
    expect(await run({ signal: worker.signal })).toEqual({ status: 'interrupted' });
    expect(await recorded()).toMatchObject({ state: { one: 5 } });
    const seen: Partial<Context>[] = [];
    acts['before'] = async (context) => void seen.push({ ...context });
    const lease = Object.assign(store.claim(operationId), { claim: 77 });
    expect(await run({ lease })).toEqual({ status: 'succeeded', result: 5 });
    expect(seen).toMatchObject([{ operationId, claim: 77, attempt: 2, state: { one: 5 } }]);
  });

  it('tries to tell its ending as often as must be, before it says so itself', async () => {
    const endings: SagaEnding[] = [];
    acts['ended succeeded'] = async () => {
      endings.push((await recorded()).status as SagaEnding);
      if (endings.length < 5) await fails(false)();
    };
    expect(await run()).toMatchObject({ status: 'succeeded' });
    expect(endings).toEqual(Array.from({ length: 5 }, () => 'running'));
  });
});

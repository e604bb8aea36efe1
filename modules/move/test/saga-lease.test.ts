import { beforeEach, describe, expect, it, jest } from '@jest/globals';
import { Clock, CoreErrors, newId } from '@rookery/core';
import { SagaErrors } from '../src/saga/saga.errors.js';
import { isLostLease, keepLease, orAborted } from '../src/saga/saga.lease.js';
import { LeaseGuard } from '../src/saga/saga.ports.js';

/** Time passes by waiting alone. */
class WaitingClock extends Clock {
  time = 1000;
  now(): number {
    return this.time;
  }
  async delay(ms: number, signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted();
    this.time += ms;
  }
}

type Answer = { readonly cancelRequested: boolean } | Error;
const away = new Error('the database is away');
const renewed = { cancelRequested: false };

describe('a lease that is kept', () => {
  const operationId = newId();
  let clock: WaitingClock;
  let until: AbortController;
  let halt: AbortController;
  let cancels: number;
  let renewals: number;

  beforeEach(() => {
    clock = new WaitingClock();
    until = new AbortController();
    halt = new AbortController();
    cancels = 0;
    renewals = 0;
  });

  /** Keeps a lease of 30 ms, asked for each 10 ms; after the last answer the work has ended. */
  function keep(answers: readonly Answer[], renewMs = 0): Promise<void> {
    const lease: LeaseGuard = Object.assign(Object.create(LeaseGuard.prototype) as LeaseGuard, {
      operationId,
      attempt: 1,
      leaseMs: 30,
      renew: async () => {
        const answer = answers[renewals]!;
        renewals += 1;
        clock.time += renewMs;
        if (renewals === answers.length) until.abort();
        if (answer instanceof Error) throw answer;
        return answer;
      },
    });
    const onCancelRequested = (): void => void (cancels += 1);
    return keepLease(lease, { clock, everyMs: 10, until: until.signal, halt, onCancelRequested });
  }

  it('is renewed until the work ends, and halts nothing', async () => {
    await keep([renewed, renewed, renewed]);
    expect({ renewals, cancels }).toEqual({ renewals: 3, cancels: 0 });
    expect(clock.time).toBe(1030);
    expect(halt.signal.aborted).toBe(false);
  });

  it('is not renewed for work that ended while it waited', async () => {
    clock.delay = async () => {
      until.abort();
      throw until.signal.reason;
    };
    await keep([renewed]);
    expect(renewals).toBe(0);
    expect(halt.signal.aborted).toBe(false);
  });

  it('is not renewed for work that was halted before', async () => {
    halt.abort();
    await keep([renewed]);
    expect({ renewals, time: clock.time }).toEqual({ renewals: 0, time: 1000 });
  });

  it('tells each time that a cancel is asked for', async () => {
    await keep([{ cancelRequested: true }, renewed, { cancelRequested: true }]);
    expect(cancels).toBe(2);
  });

  it.each([
    ['store', SagaErrors.LEASE_LOST({ operationId })],
    ['host', CoreErrors.STALE_ATTEMPT({ given: 1, current: 2 })],
  ])('is lost at once when the %s says so', async (_, lost) => {
    await keep([renewed, lost, renewed]);
    expect(renewals).toBe(2);
    expect(halt.signal.reason).toMatchObject({ code: 'LEASE_LOST', cause: lost });
  });

  it('outlives a store that is away for less than its length, again and again', async () => {
    await keep([away, renewed, away, renewed, away, renewed]);
    expect(renewals).toBe(6);
    expect(halt.signal.aborted).toBe(false);
  });

  it('is taken for lost before somebody else can have it', async () => {
    await keep([renewed, away, away, away, away]);
    // At 20 ms after the last renewal: the next try would come when all 30 ms are over.
    expect({ renewals, time: clock.time }).toEqual({ renewals: 3, time: 1030 });
    expect(halt.signal.reason).toMatchObject({ code: 'LEASE_LOST', cause: away });
  });

  it('counts from when a renewal was sent, not from its answer', async () => {
    // Each renewal takes 10 ms: after one that failed, 30 ms have passed since the last good one.
    await keep([renewed, away, away], 10);
    expect({ renewals, aborted: halt.signal.aborted }).toEqual({ renewals: 2, aborted: true });
  });

  it('is known to be lost by two words alone', () => {
    expect(isLostLease(SagaErrors.LEASE_LOST({ operationId }))).toBe(true);
    expect(isLostLease(CoreErrors.STALE_ATTEMPT({ given: 1, current: 2 }))).toBe(true);
    expect(isLostLease(CoreErrors.CANCELED())).toBe(false);
    expect(isLostLease(away)).toBe(false);
  });
});

describe('work that a signal ends', () => {
  it('gives what it gives while the signal is silent, and leaves no listener behind', async () => {
    const { signal } = new AbortController();
    const added = jest.spyOn(signal, 'addEventListener');
    const removed = jest.spyOn(signal, 'removeEventListener');
    expect(await orAborted(Promise.resolve(7), signal)).toBe(7);
    await expect(orAborted(Promise.reject(away), signal)).rejects.toBe(away);
    const listeners = added.mock.calls.map(([, listener]) => listener);
    expect(listeners).toHaveLength(2);
    expect(removed.mock.calls.map(([, listener]) => listener)).toEqual(listeners);
  });

  it('rejects with the reason at once, whatever the work does', async () => {
    const halt = new AbortController();
    const endless = orAborted(new Promise(() => undefined), halt.signal);
    halt.abort(away);
    await expect(endless).rejects.toBe(away);
    // Aborted before: what the work says later is nobody's unhandled rejection.
    await expect(orAborted(Promise.reject(new Error('late')), halt.signal)).rejects.toBe(away);
    await expect(orAborted(Promise.resolve(7), halt.signal)).rejects.toBe(away);
  });

  it('is canceled by a reason that is no error', async () => {
    const signal = AbortSignal.abort('enough');
    await expect(orAborted(Promise.resolve(7), signal)).rejects.toMatchObject({ code: 'CANCELED' });
  });
});

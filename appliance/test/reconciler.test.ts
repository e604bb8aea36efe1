import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals';
import { createLogger, SystemClock } from '@rookery/core';
import { Reconciler } from '../src/reconcile/reconciler.js';

const everyMs = 60_000;

describe('a reconciler', () => {
  let runs: AbortSignal[];
  let underWay: number;
  /** What a run does besides being counted. */
  let work: () => Promise<void>;
  let reconciler: Reconciler;

  beforeEach(() => {
    jest.useFakeTimers();
    runs = [];
    underWay = 0;
    work = async () => undefined;
    reconciler = new Reconciler({
      name: 'test',
      everyMs,
      clock: new SystemClock(),
      logger: createLogger('test', 'silent'),
      reconcile: async (signal) => {
        runs.push(signal);
        underWay += 1;
        expect(underWay).toBe(1);
        await work().finally(() => (underWay -= 1));
      },
    });
  });
  afterEach(async () => {
    await reconciler.stop();
    expect(jest.getTimerCount()).toBe(0);
    jest.useRealTimers();
  });

  const pass = (ms: number) => jest.advanceTimersByTimeAsync(ms);

  it('runs at once, and then each time its time has passed', async () => {
    reconciler.start();
    await pass(0);
    expect(runs).toHaveLength(1);
    await pass(everyMs - 1);
    expect(runs).toHaveLength(1);
    await pass(1);
    expect(runs).toHaveLength(2);
    await pass(3 * everyMs);
    expect(runs).toHaveLength(5);
  });

  it('runs when nudged, and then waits its whole time again', async () => {
    reconciler.start();
    await pass(everyMs - 1);
    reconciler.nudge();
    reconciler.nudge();
    await pass(0);
    expect(runs).toHaveLength(2);
    await pass(everyMs - 1);
    expect(runs).toHaveLength(2);
    await pass(1);
    expect(runs).toHaveLength(3);
  });

  it('runs once more for what changed during a run, never two at a time', async () => {
    let end!: () => void;
    work = () => new Promise((resolve) => (end = resolve));
    reconciler.start();
    await pass(0);
    reconciler.nudge();
    reconciler.nudge();
    await pass(2 * everyMs);
    expect(runs).toHaveLength(1);
    end();
    work = async () => undefined;
    await pass(0);
    expect(runs).toHaveLength(2);
    await pass(everyMs - 1);
    expect(runs).toHaveLength(2);
  });

  it('goes on after a run that failed, at its time', async () => {
    work = () => Promise.reject(new Error('the disk is away'));
    reconciler.start();
    await pass(0);
    expect(runs).toHaveLength(1);
    await pass(everyMs);
    expect(runs).toHaveLength(2);
  });

  it('tells a run to end and waits for it, and runs no more', async () => {
    let end!: () => void;
    work = () => new Promise((resolve) => (end = resolve));
    reconciler.start();
    await pass(0);
    reconciler.nudge();
    let hasStopped = false;
    const stopping = reconciler.stop().then(() => (hasStopped = true));
    await pass(0);
    expect(runs[0]!.aborted).toBe(true);
    expect(hasStopped).toBe(false);
    end();
    await stopping;
    expect(runs).toHaveLength(1);
  });

  it('stops at once while it waits, without another run', async () => {
    reconciler.start();
    await pass(1);
    await reconciler.stop();
    reconciler.nudge();
    await pass(2 * everyMs);
    expect(runs).toHaveLength(1);
    expect(runs[0]!.aborted).toBe(true);
  });
});

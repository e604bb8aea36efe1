import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Worker } from 'node:worker_threads';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { newId, waitFor } from '@rookery/core';
import { spaceAccount } from '../src/account.js';
import { runnerLimits, type RunnerListener } from '../src/workers/runner.js';
import { ThreadRunner } from '../src/workers/thread-runner.js';

describe('a thread of accounts', () => {
  let folder: string;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'rookery-thread-'));
  });
  afterEach(() => rm(folder, { recursive: true, force: true }));

  it('is given what came in while it was dead, though nothing comes after it', async () => {
    const answers: string[] = [];
    const done: number[] = [];
    const none = (): void => undefined;
    const listener: RunnerListener = {
      listen: none,
      watch: none,
      unwatch: none,
      quarantined: none,
      problem: none,
      report: none,
      saidAll: none,
      send: (_account, message) => void answers.push(message.to),
      done: (command) => void done.push(command),
    };
    const runner = new ThreadRunner(listener, { limits: runnerLimits, synchronous: 'full' }, 1);
    const account = spaceAccount({ root: 'space', id: newId() }, join(folder, 'conat.sqlite'));
    runner.command(1, 7, { kind: 'open', account, fenced: false });
    await waitFor('the account is open', () => done.includes(1), { timeoutMs: 10_000 });

    const { threads } = runner as unknown as { threads: { worker: Worker | null }[] };
    const worker = threads[0]!.worker!;
    const died = once(worker, 'exit');
    await worker.terminate();
    await died;
    expect(threads[0]!.worker).toBeNull();
    const payload = Buffer.alloc(0);
    const ask = { kind: 'api', subject: 'INFO', reply: 'inbox.1', headers: null, payload } as const;
    expect(runner.input(7, ask)).toBe(true);
    await waitFor('it is answered', () => answers.includes('inbox.1'), { timeoutMs: 10_000 });
    await runner.close();
  });
});

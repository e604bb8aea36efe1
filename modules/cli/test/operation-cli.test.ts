import { randomUUID } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { HubInMemory, operationView } from '@rookery/client/testing';
import { describeOperation } from '../src/output/progress.js';
import { cli, type CliOutcome } from '../src/testing/run-cli.js';

describe('what the command line shows of an operation', () => {
  let hub: HubInMemory;
  beforeEach(async () => {
    hub = await HubInMemory.start();
  });
  afterEach(() => hub.server.close());

  const run = (...argv: string[]): Promise<CliOutcome> =>
    cli(argv, { env: { ROOKERY_URL: hub.server.url, ROOKERY_TOKEN: 'rk_secret' } });

  it('says who an operation waits for, and what its step met last, when nothing is heard', async () => {
    const since = (agoMs: number) => new Date(Date.now() - agoMs).toISOString();
    const moving = operationView('project.move', null, {
      state: 'running',
      step: 'copying',
      tries: 3,
      progress: { step: 'send', done: 306, unit: 'bytes' },
      lastError: { code: 'TRANSFER_STALLED', message: 'Stalled.', status: 504, retryable: true },
      waitsFor: { kind: 'host', id: randomUUID(), name: 'h2', since: since(40_000) },
    });
    expect(describeOperation(moving)).toMatch(
      /^project\.move: send, 306 B; waits for host h2, not heard of for 4\d s$/,
    );
    const heard = { ...moving, waitsFor: { ...moving.waitsFor!, since: since(0) } };
    expect(describeOperation(heard)).toBe('project.move: send, 306 B');
    hub.operations.set(moving.id, moving);
    const { stdout } = await run('op', 'show', moving.id);
    expect(stdout).toMatch(/Step: +copying\n.*Waits for: +host h2, last heard of 4\d s ago/s);
    expect(stdout).toMatch(/Last error: +Stalled\. \(TRANSFER_STALLED, 3 times\)/);
  });
});

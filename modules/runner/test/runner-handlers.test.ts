import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals';
import { PassThrough } from 'node:stream';
import { createLogger, MiB, newId, waitFor } from '@rookery/core';
import type { DuplexContext } from '@rookery/rpc/contract';
import type { ProjectSpec } from '@rookery/core/contract';
import { createRunnerHandlers, MemoryDriver, RunnerService } from '@rookery/runner';
import type { ExecControl } from '@rookery/fleet/contract';
import { MemoryImageStore, MemoryProjectStore } from '@rookery/runner/testing';
import { MemoryStorageDriver } from '@rookery/storage';

let driver: MemoryDriver;
let storage: MemoryStorageDriver;
let service: RunnerService;

const quota = { diskBytes: 64 * MiB, memoryBytes: 64 * MiB, cpus: 1, pidsMax: 64 };
const spec: ProjectSpec = { image: 'debian:13', quota, publicPorts: [] };

beforeEach(async () => {
  driver = new MemoryDriver();
  storage = new MemoryStorageDriver();
  await storage.open();
  const [images, store] = [new MemoryImageStore(), new MemoryProjectStore()];
  service = new RunnerService({
    driver,
    images,
    storage,
    store,
    log: createLogger('test', 'silent'),
  });
});

afterEach(() => storage.close());

async function running(): Promise<string> {
  const id = newId();
  const fence = { projectId: id, generation: 1, operationId: newId(), attempt: 1 };
  await service.create(fence, spec);
  await service.start(fence, spec);
  return id;
}

describe('the handlers of a runner', () => {
  function duplex() {
    const abort = new AbortController();
    const [stdin, stdout, stderr] = [new PassThrough(), new PassThrough(), new PassThrough()];
    let control: ((message: ExecControl) => void) | undefined;
    const context: DuplexContext<ExecControl> = {
      params: {},
      caller: 'hub',
      signal: abort.signal,
      stdin,
      stdout,
      stderr,
      onControl: (listener) => (control = listener),
    };
    return { abort, stdin, stdout, context, control: (m: ExecControl) => control?.(m) };
  }

  it('streams a command both ways and give its exit status', async () => {
    const id = await running();
    const { exec } = createRunnerHandlers(service);
    const caller = duplex();
    const done = exec({ projectId: id, command: ['cat'], env: {} }, caller.context);
    caller.stdin.end('hello');
    expect(await done).toEqual({ exit: 0 });
    expect(String(caller.stdout.read())).toBe('hello');
  });

  it('hands signals on, and ends the command when its caller goes away', async () => {
    const id = await running();
    const { exec } = createRunnerHandlers(service);
    const input = { projectId: id, command: ['sleep', '1000'], env: {} };
    const signaled = duplex();
    const first = exec(input, signaled.context);
    await waitFor('it runs', async () => (await driver.stats(id)).pids === 2, { timeoutMs: 1000 });
    signaled.control({ kind: 'signal', signal: 'SIGINT' });
    expect(await first).toEqual({ exit: 130 });
    const gone = duplex();
    const second = exec(input, gone.context);
    await waitFor('it runs', async () => (await driver.stats(id)).pids === 2, { timeoutMs: 1000 });
    gone.abort.abort();
    expect((await second).exit).toBeGreaterThan(128);
    expect((await driver.stats(id)).pids).toBe(1);
  });

  it.each(['stdout', 'stderr'] as const)(
    'says that %s was cut off, whatever the exit',
    async (cut) => {
      const id = await running();
      const session = await driver.exec({ projectId: id, command: ['cat'], env: {} });
      jest.spyOn(driver, 'exec').mockResolvedValue(session);
      const { exec } = createRunnerHandlers(service);
      const caller = duplex();
      const done = exec({ projectId: id, command: ['cat'], env: {} }, caller.context);
      await waitFor('it is read', () => session[cut].listenerCount('data') > 0, {
        timeoutMs: 1000,
      });
      session[cut].destroy();
      caller.stdin.end();
      await expect(done).rejects.toMatchObject({ code: 'OUTPUT_CUT' });
    },
  );

  it('says that a log was cut off, but not to a caller that has gone', async () => {
    const id = await running();
    const { logs } = createRunnerHandlers(service);
    for (const end of ['cut', 'aborted', 'closed'] as const) {
      const log = new PassThrough();
      jest.spyOn(driver, 'logs').mockReturnValueOnce(log);
      const caller = duplex();
      const context = { ...caller.context, onControl: () => undefined };
      const done = logs({ projectId: id, follow: true }, context);
      await waitFor('it is read', () => log.listenerCount('data') > 0, { timeoutMs: 1000 });
      if (end === 'aborted') caller.abort.abort();
      if (end === 'closed') caller.stdout.destroy();
      else log.destroy();
      if (end === 'cut') await expect(done).rejects.toMatchObject({ code: 'OUTPUT_CUT' });
      else expect(await done).toEqual({});
    }
  });

  it('gives the last lines of the log', async () => {
    const id = await running();
    for (const line of ['one', 'two', 'three']) driver.print(id, line);
    const { logs } = createRunnerHandlers(service);
    const caller = duplex();
    const context = { ...caller.context, onControl: () => undefined };
    await logs({ projectId: id, follow: false, tailLines: 2 }, context);
    expect(String(caller.stdout.read())).toBe('two\nthree\n');
  });
});

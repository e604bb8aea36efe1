import type { TestKit } from '@rookery/core/testing';
import type { Readable } from 'node:stream';
import { MiB, newId, waitFor } from '@rookery/core';
import type { ProjectId } from '@rookery/core/contract';
import type { ContainerDriver, ContainerSpec, ExecSession } from '../container.driver.js';

export interface ConformanceSetup {
  /** The driver under test, open. */
  readonly driver: () => ContainerDriver;
  /** Makes what a container of this project needs. */
  readonly specOf: (id: ProjectId, generation: number) => Promise<ContainerSpec>;
}

/** What every container driver must do, the memory one included. */
export function containerDriverConformance(
  { describe, it, expect }: Pick<TestKit, 'describe' | 'it' | 'expect'>,
  { driver, specOf }: ConformanceSetup,
): void {
  const started = async (generation = 1): Promise<ContainerSpec> => {
    const spec = await specOf(newId(), generation);
    await driver().start(spec);
    return spec;
  };
  const statusOf = async (id: ProjectId) =>
    (await driver().list()).find(({ projectId }) => projectId === id);
  const run = async (id: ProjectId, command: string[]) =>
    outcome(await driver().exec({ projectId: id, command, env: {} }));

  describe('a container', () => {
    it('runs when start resolves, and tells its generation and address', async () => {
      const { projectId } = await started(7);
      const status = await statusOf(projectId);
      expect(status).toMatchObject({ projectId, generation: 7, state: 'running' });
      expect(typeof status?.address).toBe('string');
      await driver().stop(projectId, { graceMs: 0 });
    });

    it('is left alone by a second start of the same generation', async () => {
      const spec = await started();
      const first = await statusOf(spec.projectId);
      await driver().start(spec);
      expect(await statusOf(spec.projectId)).toEqual(first);
      await driver().stop(spec.projectId, { graceMs: 0 });
    });

    it('is gone when stop resolves; stopping again does no harm', async () => {
      const { projectId } = await started();
      await driver().stop(projectId, { graceMs: 1000 });
      expect(await statusOf(projectId)).toBe(undefined);
      await driver().stop(projectId, { graceMs: 0 });
      await driver().stop(newId(), { graceMs: 0 });
    });

    it('starts again after a stop, also at a newer generation', async () => {
      const spec = await started();
      await driver().stop(spec.projectId, { graceMs: 0 });
      await driver().start({ ...spec, generation: 2 });
      expect(await statusOf(spec.projectId)).toMatchObject({ state: 'running', generation: 2 });
      await driver().stop(spec.projectId, { graceMs: 0 });
    });

    it('tells its mode, and is made anew by a start in the other', async () => {
      const spec = await started();
      expect(await statusOf(spec.projectId)).toMatchObject({ rescue: false });
      for (const rescue of [true, false]) {
        await driver().start({ ...spec, rescue });
        expect(await statusOf(spec.projectId)).toMatchObject({ state: 'running', rescue });
      }
      await driver().stop(spec.projectId, { graceMs: 0 });
    });

    it('is removed as a stray unless it is kept', async () => {
      const [kept, stray] = [await started(), await started()];
      expect(await driver().removeStrays([kept.projectId])).toContain(stray.projectId);
      expect(await statusOf(stray.projectId)).toBe(undefined);
      expect(await statusOf(kept.projectId)).toMatchObject({ state: 'running' });
      await driver().stop(kept.projectId, { graceMs: 0 });
    });

    it('takes new limits while it runs', async () => {
      const spec = await started();
      const memoryBytes = 128 * MiB;
      await driver().update(spec.projectId, { ...spec.quota, memoryBytes });
      if (driver().capabilities.limits.memory) {
        const { memoryLimitBytes } = await driver().stats(spec.projectId);
        expect(memoryLimitBytes).toBe(memoryBytes);
      }
      await driver().stop(spec.projectId, { graceMs: 0 });
    });
  });

  describe('a command in a container', () => {
    it('passes input, output and exit status through', async () => {
      const { projectId } = await started();
      expect(await run(projectId, ['echo', 'a', 'b'])).toEqual({ exit: 0, out: 'a b\n', err: '' });
      expect(await run(projectId, ['sh', '-c', 'exit 7'])).toMatchObject({ exit: 7 });
      const cat = await driver().exec({ projectId, command: ['cat'], env: {} });
      cat.stdin.end('typed');
      expect(await outcome(cat)).toMatchObject({ exit: 0, out: 'typed' });
      await driver().stop(projectId, { graceMs: 0 });
    });

    it('ends with 127 when it does not exist', async () => {
      const { projectId } = await started();
      const { exit, err } = await run(projectId, ['no-such-command']);
      expect(exit).toBe(127);
      expect(err).toContain('no-such-command');
      await driver().stop(projectId, { graceMs: 0 });
    });

    it('ends with 128 + n when signal n ends it', async () => {
      const { projectId } = await started();
      const sleep = await driver().exec({ projectId, command: ['sleep', '1000'], env: {} });
      sleep.signal('SIGTERM');
      expect(await sleep.exit).toBe(143);
      await driver().stop(projectId, { graceMs: 0 });
    });

    it('ends when its caller goes away', async () => {
      const { projectId } = await started();
      const before = (await driver().stats(projectId)).pids;
      const sleep = await driver().exec({ projectId, command: ['sleep', '1000'], env: {} });
      sleep.kill();
      expect(await sleep.exit).toBeGreaterThan(128);
      await waitFor(
        'its processes are gone',
        async () => (await driver().stats(projectId)).pids <= before,
        { timeoutMs: 5000 },
      );
      await driver().stop(projectId, { graceMs: 0 });
    });

    it('ends with its container', async () => {
      const { projectId } = await started();
      const sleep = await driver().exec({ projectId, command: ['sleep', '1000'], env: {} });
      await driver().stop(projectId, { graceMs: 0 });
      expect(await sleep.exit).toBeGreaterThan(0);
    });

    it('is refused when no container runs', async () => {
      const input = { projectId: newId(), command: ['true'], env: {} };
      await expect(driver().exec(input)).rejects.toMatchObject({ code: 'PROJECT_NOT_RUNNING' });
      await expect(driver().stats(input.projectId)).rejects.toMatchObject({
        code: 'PROJECT_NOT_RUNNING',
      });
    });
  });
}

/** All of a session's output and its exit status. */
export async function outcome(
  session: ExecSession,
): Promise<{ exit: number; out: string; err: string }> {
  if (session.stdin.writable) session.stdin.end();
  const [exit, out, err] = await Promise.all([
    session.exit,
    textOf(session.stdout),
    textOf(session.stderr),
  ]);
  return { exit, out, err };
}

async function textOf(stream: Readable): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(Buffer.from(chunk as Buffer));
  return Buffer.concat(chunks).toString('utf8');
}

import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import {
  exitUnrecoverable,
  identifyProcess,
  isProcessAlive,
  startDetached,
  Supervisor,
  SystemExec,
  waitFor,
  type ProcessIdentity,
  type SupervisorEvent,
  type SupervisorOptions,
} from '@rookery/core';

const quick: SupervisorOptions = { restartFirstMs: 10, restartMaxMs: 100 };
/** Lives until a signal, or until its supervisor is gone. */
const stays = `process.on('disconnect', () => process.exit(0)); process.send({ ready: true });`;

describe('Supervisor', () => {
  let folder: string;
  let events: SupervisorEvent[];
  let messages: unknown[];
  const made: Supervisor[] = [];
  const strays: ProcessIdentity[] = [];

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'supervise-'));
    events = [];
    messages = [];
  });

  afterEach(async () => {
    await Promise.all(made.splice(0).map((one) => one.stop(100)));
    for (const one of strays.splice(0)) {
      if (await isProcessAlive(one)) process.kill(one.pid, 'SIGKILL');
    }
    await rm(folder, { recursive: true, force: true });
  });

  function supervise(script: string, options: SupervisorOptions = {}): Supervisor {
    const supervisor = new Supervisor(
      {
        name: 'child',
        argv: [process.execPath, '-e', script],
        env: { FOLDER: folder },
        logFile: join(folder, 'log', 'child.log'),
      },
      {
        ...quick,
        onEvent: (event) => events.push(event),
        onMessage: (message) => messages.push(message),
        ...options,
      },
    );
    made.push(supervisor);
    return supervisor;
  }

  const ready = (times = 1): Promise<unknown> =>
    waitFor('the child is ready', () => messages.length >= times, { timeoutMs: 20_000 });
  const exits = (): SupervisorEvent[] => events.filter((event) => event.kind === 'exited');
  const log = (): Promise<string> => readFile(join(folder, 'log', 'child.log'), 'utf8');

  it('runs a child, hears its messages, keeps its output and stops it gracefully', async () => {
    const supervisor = supervise(`
      process.on('message', (message) => { console.log('got', message.word); process.send({}) });
      process.on('SIGTERM', () => { console.error('leaving'); process.exit(7); });
      ${stays}`);
    await supervisor.start();
    await ready();
    expect(supervisor.state).toBe('running');
    expect(messages).toEqual([{ ready: true }]);
    expect(supervisor.send({ word: 'hello' })).toBe(true);
    await ready(2);
    await supervisor.stop();
    expect(supervisor.state).toBe('stopped');
    expect(exits()).toEqual([{ kind: 'exited', name: 'child', exit: 7, signal: null }]);
    expect(await log()).toBe('got hello\nleaving\n');
    expect(supervisor.send({ word: 'late' })).toBe(false);
  });

  it('starts a child again that was killed, and names the new one', async () => {
    const supervisor = supervise(stays);
    await supervisor.start();
    await ready();
    const first = supervisor.identity!;
    expect(await isProcessAlive(first)).toBe(true);
    process.kill(first.pid, 'SIGKILL');
    await ready(2);
    expect(supervisor.identity).not.toEqual(first);
    expect(await isProcessAlive(first)).toBe(false);
    expect(supervisor.restarts).toBe(1);
    expect(exits()).toMatchObject([{ signal: 'SIGKILL', exit: null }]);
  });

  it('waits longer with every quick exit, between half and all of a doubling ceiling', async () => {
    const supervisor = supervise('process.exit(3)', {
      restartFirstMs: 16,
      restartMaxMs: 64,
      random: () => 1,
    });
    await supervisor.start();
    await waitFor('five exits', () => exits().length >= 5, { timeoutMs: 20_000 });
    await supervisor.stop();
    const waits = exits().map((event) => event.kind === 'exited' && event.restartInMs);
    expect(waits.slice(0, 4)).toEqual([16, 32, 64, 64]);
  });

  it('waits the first delay again after a child that was healthy', async () => {
    const supervisor = supervise('process.exit(3)', {
      restartFirstMs: 16,
      healthyMs: 0,
      random: () => 1,
    });
    await supervisor.start();
    await waitFor('three exits', () => exits().length >= 3, { timeoutMs: 20_000 });
    await supervisor.stop();
    for (const event of exits().slice(0, 3)) expect(event).toMatchObject({ restartInMs: 16 });
  });

  it('kills a child that ignores SIGTERM once the deadline has passed', async () => {
    const supervisor = supervise(`process.on('SIGTERM', () => undefined); ${stays}`);
    await supervisor.start();
    await ready();
    await supervisor.stop(200);
    expect(exits()).toMatchObject([{ signal: 'SIGKILL' }]);
    expect(supervisor.state).toBe('stopped');
  });

  it('leaves a child down that says a restart cannot help', async () => {
    const supervisor = supervise(`process.exit(${exitUnrecoverable})`);
    await supervisor.start();
    await waitFor('the exit', () => exits().length > 0, { timeoutMs: 20_000 });
    expect(supervisor.state).toBe('failed');
    expect(exits()).toEqual([
      { kind: 'exited', name: 'child', exit: exitUnrecoverable, signal: null },
    ]);
    await supervisor.stop();
  });

  it('refuses a program that does not exist', async () => {
    const supervisor = new Supervisor({ name: 'none', argv: [join(folder, 'missing')] }, quick);
    await expect(supervisor.start()).rejects.toMatchObject({ code: 'COMMAND_MISSING' });
    expect(supervisor.state).toBe('failed');
    await supervisor.stop();
  });

  it('stops while it waits for a restart, and starts again afterwards', async () => {
    const supervisor = supervise(
      `const fs = require('node:fs');
       if (!fs.existsSync(process.env.FOLDER + '/go')) process.exit(1);
       ${stays}`,
      { restartFirstMs: 60_000, restartMaxMs: 60_000 },
    );
    await supervisor.start();
    await waitFor('waiting', () => supervisor.state === 'waiting', { timeoutMs: 20_000 });
    await supervisor.stop();
    expect(supervisor.state).toBe('stopped');
    await writeFile(join(folder, 'go'), '');
    await supervisor.start();
    await ready();
    expect(supervisor.state).toBe('running');
  });

  it('leaves no child behind when stop comes while start is under way', async () => {
    const supervisor = supervise(stays);
    const starting = supervisor.start();
    await supervisor.stop(2000);
    await starting;
    expect(supervisor.state).toBe('stopped');
    const started = events.find((event) => event.kind === 'started');
    expect(await identifyProcess(started!.identity.pid)).toBeUndefined();
  });

  it('kills the helpers that a dead child left in its group', async () => {
    const supervisor = supervise(`
      const { spawn } = require('node:child_process');
      const helper = spawn('sleep', ['600'], { stdio: 'ignore' });
      process.send({ helper: helper.pid });
      ${stays}`);
    await supervisor.start();
    await ready(2);
    const { helper } = messages[0] as { helper: number };
    const identity = (await identifyProcess(helper))!;
    strays.push(identity);
    process.kill(supervisor.identity!.pid, 'SIGKILL');
    await waitFor('the helper is gone', async () => !(await isProcessAlive(identity)), {
      timeoutMs: 10_000,
    });
  });

  it('the child ends itself when the supervisor is killed', async () => {
    // A supervisor in a process of its own, which is then killed the hard way.
    const middle = new SystemExec().spawn([
      process.execPath,
      '-e',
      `const { spawn } = require('node:child_process');
       const child = spawn(process.execPath, ['-e', ${JSON.stringify(stays)}],
         { detached: true, stdio: ['ignore', 'ignore', 'ignore', 'ipc'] });
       child.on('message', () => console.log(child.pid));`,
    ]);
    const pid = await new Promise<number>((resolve) =>
      middle.stdout.once('data', (chunk: Buffer) => resolve(Number(chunk.toString()))),
    );
    const identity = (await identifyProcess(pid))!;
    strays.push(identity);
    middle.kill('SIGKILL');
    await middle.ended;
    await waitFor('the child is gone', async () => !(await isProcessAlive(identity)), {
      timeoutMs: 10_000,
    });
  });

  it('tells a process from another one with its pid', async () => {
    const me = (await identifyProcess(process.pid))!;
    expect(await isProcessAlive(me)).toBe(true);
    expect(await isProcessAlive({ ...me, startTicks: me.startTicks - 1 })).toBe(false);
    expect(await isProcessAlive({ ...me, bootId: 'another boot' })).toBe(false);
    expect(await identifyProcess(4_194_305)).toBeUndefined();
  });
});

describe('startDetached', () => {
  it('watches a process until it is released, and leaves it alone then', async () => {
    const heard: unknown[] = [];
    const detached = await startDetached(
      {
        name: 'alone',
        argv: [
          process.execPath,
          '-e',
          `process.send({ hello: 1 }); process.on('disconnect', () => setTimeout(() => {}, 60_000));`,
        ],
      },
      (message) => heard.push(message),
    );
    try {
      await waitFor('its message', () => heard.length > 0, { timeoutMs: 20_000 });
      detached.release();
      expect(heard).toEqual([{ hello: 1 }]);
      expect(await isProcessAlive(detached.identity)).toBe(true);
    } finally {
      process.kill(detached.identity.pid, 'SIGKILL');
    }
  });

  it('tells how a watched process ended', async () => {
    const argv = [process.execPath, '-e', 'process.exit(4)'];
    const detached = await startDetached({ name: 'short', argv }, () => undefined);
    expect(await detached.ended).toEqual({ exit: 4, signal: null });
  });
});

import { createHash, randomBytes } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { RookeryClient } from '@rookery/client';
import { serve, type ServiceServer } from '@rookery/rpc';
import { startTestBroker, type TestBroker } from '@rookery/conat/testing';
import { CodedError, SystemExec, waitFor } from '@rookery/core';
import type { Handlers } from '@rookery/rpc/contract';
import { pipeline } from 'node:stream/promises';
import { buffer, text } from 'node:stream/consumers';
import { projectStreams } from '@rookery/api';
import { HubInMemory } from '@rookery/client/testing';
import { runCli } from '../src/program.js';
import { cli, TestIo } from '../src/testing/run-cli.js';

const MiB = 1024 * 1024;

/** Runs commands of this machine where a host would run them in a container. */
const localExec: Handlers<typeof projectStreams> = {
  async exec({ command, env, tty }, context) {
    const { stdin, stdout, stderr, signal } = context;
    if (command[0] === 'missing') {
      throw new CodedError({
        code: 'PROJECT_NOT_RUNNING',
        message: 'The project does not run.',
        status: 409,
        retryable: false,
      });
    }
    const child = new SystemExec().spawn(command, {
      env: { ...env, TTY: tty ? `${tty.columns}x${tty.rows}` : 'none' },
    });
    controls.length = 0;
    context.onControl((message) => {
      controls.push(message);
      if (message.kind === 'signal') child.kill(message.signal);
    });
    signal.addEventListener('abort', () => child.kill('SIGKILL'));
    const [, , , end] = await Promise.all([
      pipeline(stdin, child.stdin).catch(() => undefined),
      pipeline(
        child.stdout,
        async function* (chunks: AsyncIterable<Buffer>) {
          for await (const chunk of chunks) {
            producedBytes += chunk.length;
            yield chunk;
          }
        },
        stdout,
      ),
      pipeline(child.stderr, stderr),
      child.ended,
    ]);
    return { exit: end.exit ?? 128 + (end.signal === 'SIGINT' ? 2 : 9) };
  },
  async logs({ tailLines }, { stdout, stderr, stdin }) {
    stdin.resume();
    stdout.end(`last ${tailLines ?? 'all'} lines\n`);
    stderr.end('and errors\n');
    return {};
  },
};
const controls: unknown[] = [];
/** What commands wrote so far. */
let producedBytes = 0;

describe('exec and logs', () => {
  let broker: TestBroker;
  let server: ServiceServer;
  let hub: HubInMemory;
  let env: NodeJS.ProcessEnv;

  beforeAll(async () => {
    broker = await startTestBroker();
    hub = await HubInMemory.start();
    hub.conat = { url: broker.url, token: 'any', inboxPrefix: '_INBOX.account-1' };
    env = { ROOKERY_URL: hub.server.url, ROOKERY_TOKEN: 'rk_secret' };
    const { id } = hub.add('hello');
    server = await serve(await broker.connect(), projectStreams, localExec, {
      params: { projectId: id },
    });
  });
  beforeEach(() => void (controls.length = 0));
  afterAll(async () => {
    await server.close(0);
    await hub.server.close();
    await broker.close();
  });

  const exec = (argv: string[], stdin: string | null = ''): ReturnType<typeof cli> =>
    cli(['project', 'exec', 'hello', ...argv], { env, stdin });

  it('refuses arguments that no message can carry, and says how to pass them', async () => {
    const words = Array.from({ length: 12 }, () => 'x'.repeat(100_000));
    const refused = await cli(['project', 'exec', 'hello', '--', 'echo', ...words], { env });
    expect(refused).toMatchObject({ exit: 1, stdout: '' });
    expect(refused.stderr).toMatch(/^error: [^\n]*standard input[^\n]* \(COMMAND_TOO_LONG\)\n$/);
  });

  it('passes stdin, stdout, stderr and the exit status through', async () => {
    const done = await exec(['--', 'sh', '-c', 'cat; echo oops >&2; exit 7'], 'hello there\n');
    expect(done).toEqual({ exit: 7, stdout: 'hello there\n', stderr: 'oops\n' });
  });

  it('hands arguments and variables on untouched', async () => {
    const { stdout } = await exec([
      '-e',
      'WORD=a b',
      '--',
      'sh',
      '-c',
      'echo "$WORD" "$1"',
      'x',
      '$HOME *',
    ]);
    expect(stdout).toBe('a b $HOME *\n');
  });

  it('leaves one document with --json, and still the exit status', async () => {
    const done = await exec(['--json', '--', 'sh', '-c', 'echo out; echo err >&2; exit 3']);
    expect(done.exit).toBe(3);
    expect(JSON.parse(done.stdout)).toEqual({ exit: 3, stdout: 'out\n', stderr: 'err\n' });
  });

  it('carries megabytes both ways unchanged', async () => {
    const io = new TestIo(env);
    const data = randomBytes(8 * MiB);
    const back = buffer(io.stdout);
    io.stderr.resume();
    io.stdin.end(data);
    expect(await runCli(['project', 'exec', 'hello', '--', 'cat'], io)).toBe(0);
    io.stdout.end();
    const hash = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');
    expect(hash(await back)).toBe(hash(data));
  });

  it('slows the command down when nobody reads its output', async () => {
    const io = new TestIo(env);
    io.stderr.resume();
    io.stdin.end();
    producedBytes = 0;
    const running = runCli(
      ['project', 'exec', 'hello', '--', 'head', '-c', String(512 * MiB), '/dev/zero'],
      io,
    );
    await waitFor('the output has begun', () => io.stdout.readableLength > 0, {
      timeoutMs: 10_000,
    });
    let last = -1;
    await waitFor(
      'nothing more comes',
      () => {
        const same = producedBytes === last;
        last = producedBytes;
        return same;
      },
      { timeoutMs: 10_000, everyMs: 300 },
    );
    // The rest of the 512 MiB stays with the command.
    expect(producedBytes).toBeLessThan(16 * MiB);
    // The reader goes away, as `| head` does.
    io.stdout.destroy();
    expect(await running).toBe(141);
  });

  it('forwards signals, and gives the status of a command that a signal ended', async () => {
    const io = new TestIo(env);
    io.stderr.resume();
    const running = runCli(
      ['project', 'exec', 'hello', '--', 'sh', '-c', 'echo up; exec sleep 600'],
      io,
    );
    await new Promise((resolve) => io.stdout.once('data', resolve));
    io.raise('SIGINT');
    expect(await running).toBe(130);
    expect(io.listening).toBe(0);
  });

  it('gives up a command that ignores Ctrl-C at the third', async () => {
    const io = new TestIo(env);
    const shown = text(io.stderr);
    const running = runCli(
      [
        'project',
        'exec',
        'hello',
        '--',
        'sh',
        '-c',
        'trap "" INT; echo up; sleep 600 & wait; wait',
      ],
      io,
    );
    await new Promise((resolve) => io.stdout.once('data', resolve));
    io.raise('SIGINT');
    io.raise('SIGINT');
    io.raise('SIGINT');
    expect(await running).toBe(130);
    io.stderr.end();
    expect(await shown).toContain('CANCELED');
  });

  it('with -t: raw keys, the window’s size and its changes, and the old modes afterwards', async () => {
    const io = new TestIo(env);
    const modes: boolean[] = [];
    io.stdin.isTTY = io.stdout.isTTY = true;
    Object.assign(io.stdin, { setRawMode: (raw: boolean) => modes.push(raw) });
    io.stderr.resume();
    const running = runCli(
      ['project', 'exec', '-t', 'hello', '--', 'sh', '-c', 'echo $TTY; head -c1 >/dev/null'],
      io,
    );
    const [first] = await Promise.all([
      new Promise<Buffer>((resolve) => io.stdout.once('data', resolve)),
    ]);
    expect(first.toString()).toBe('100x30\n');
    io.stdout.columns = 120;
    io.raise('SIGWINCH');
    await waitFor('the resize has come', () => controls.length > 0, { timeoutMs: 10_000 });
    expect(controls).toEqual([{ kind: 'resize', size: { columns: 120, rows: 30 } }]);
    io.stdin.write('x');
    expect(await running).toBe(0);
    expect(modes).toEqual([true, false]);
    expect(io.listening).toBe(0);
  });

  it('shows the host’s coded error and a failing exit status', async () => {
    const done = await exec(['--', 'missing']);
    expect(done).toEqual({
      exit: 1,
      stdout: '',
      stderr: 'error: The project does not run. (PROJECT_NOT_RUNNING)\n',
    });
  });

  it('says that nobody serves a project that is not there', async () => {
    hub.add('elsewhere');
    const { exit, stderr } = await cli(['project', 'exec', 'elsewhere', '--', 'true'], { env });
    expect(exit).toBe(1);
    expect(stderr).toContain('SERVICE_UNAVAILABLE');
  });

  it('prints logs, whole as a document or as they come', async () => {
    const plain = await cli(['project', 'logs', 'hello', '--tail', '5'], { env });
    expect(plain).toEqual({ exit: 0, stdout: 'last 5 lines\n', stderr: 'and errors\n' });
    const coded = await cli(['project', 'logs', 'hello', '--json'], { env });
    expect(JSON.parse(coded.stdout)).toEqual({
      stdout: 'last all lines\n',
      stderr: 'and errors\n',
    });
  });

  it('uses one connection for many streams, and closes it', async () => {
    const client = new RookeryClient({ url: hub.server.url, token: 'rk_secret' });
    const tokens = (): number =>
      hub.server.requests.filter((one) => one.operation === 'createConatToken').length;
    const before = tokens();
    const { id } = [...hub.projects.values()][0]!;
    const calls = await Promise.all(
      ['a', 'b', 'c'].map((word) => client.exec(id, { command: ['echo', word] })),
    );
    const words = await Promise.all(
      calls.map(async (call) => (call.stdin.end(), text(call.stdout))),
    );
    expect(words).toEqual(['a\n', 'b\n', 'c\n']);
    expect(tokens() - before).toBe(1);
    await client.close();
    const again = await client.exec(id, { command: ['true'] });
    again.stdin.end();
    expect(await again.result).toEqual({ exit: 0 });
    await client.close();
  });
});

import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:net';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { ConatClient } from '@rookery/conat';
import { waitFor } from '@rookery/core';
import { runCli } from '../src/program.js';
import { cli, TestIo } from '../src/testing/run-cli.js';

interface Serving {
  readonly io: TestIo;
  readonly exit: Promise<number>;
  readonly stderr: Promise<string>;
}

/** Starts the command and reads on until it has said where it listens. */
async function serving(
  ...argv: string[]
): Promise<Serving & { url: string; nats: string | null; metrics: string }> {
  const io = new TestIo({ HOME: '/nonexistent', XDG_CONFIG_HOME: '/nonexistent' });
  let printed = '';
  io.stdout.on('data', (chunk: Buffer) => (printed += chunk.toString()));
  const stderr = text(io.stderr);
  let status: number | undefined;
  const exit = runCli(['conat', 'serve', '--json', ...argv], io).then((code) => {
    status = code;
    io.stderr.end();
    return code;
  });
  await waitFor('it says where it listens', () => printed.includes('}') || status !== undefined, {
    timeoutMs: 20_000,
  });
  if (status !== undefined) throw new Error(`it ended with ${status}: ${await stderr}`);
  const addresses = JSON.parse(printed) as { url: string; nats: string | null; metrics: string };
  return { io, exit, stderr, ...addresses };
}

const occupied = async (): Promise<Server> => {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return server;
};

describe('rookery conat serve', () => {
  let folder: string;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'rookery-conat-'));
  });
  afterEach(() => rm(folder, { recursive: true, force: true }));

  it('serves NATS clients with the token, counts them in /metrics, and drains on Ctrl-C', async () => {
    const tokenFile = join(folder, 'token');
    await writeFile(tokenFile, 'sesame\n');
    const server = await serving(
      '--port',
      '0',
      '--tcp-port',
      '0',
      '--token-file',
      tokenFile,
      '--drain',
      '1',
      '--name',
      'hoarder',
    );
    expect(server.nats).toMatch(/^nats:\/\/127\.0\.0\.1:[1-9]\d+$/);
    const connect = (token: string): Promise<ConatClient> =>
      ConatClient.connect({
        servers: server.url,
        identity: 'anyone',
        credentials: { token },
        connectTimeoutMs: 20_000,
      });
    await expect(connect('wrong')).rejects.toMatchObject({ code: 'CONAT_UNAUTHORIZED' });
    const client = await connect('sesame');
    const { nats } = client;
    expect(nats.info?.server_name).toBe('hoarder');
    const heard: string[] = [];
    nats.subscribe('a', { callback: (_, message) => void heard.push(message.string()) });
    nats.publish('a', 'hello');
    await nats.flush();
    expect(heard).toEqual(['hello']);
    const metrics = await (await fetch(server.metrics)).text();
    expect(metrics).toContain('conat_connections{transport="websocket"} 1');
    expect(metrics).toContain('conat_messages_in_total 1');
    expect(metrics).toMatch(
      /conat_connections_closed_total\{reason="authentication failure"\} [1-9]/,
    );
    server.io.raise('SIGINT');
    await waitFor('the client is cut off', () => client.status === 'disconnected', {
      timeoutMs: 20_000,
    });
    await client.close();
    expect(await server.exit).toBe(0);
    expect(server.io.listening).toBe(0);
    expect(await server.stderr).toContain('draining');
  });

  it.each([
    [['--allow-all', '--token', 'x']],
    [[]],
    [['--token-file', '/nonexistent/token']],
    [['--allow-all', '--port', '0x50']],
  ])('refuses %j as wrong usage', async (argv) => {
    const { exit, stderr } = await cli(['conat', 'serve', ...argv]);
    expect(exit).toBe(2);
    expect(stderr).toMatch(/USAGE|hint/);
  });

  it('says so when a port is taken, and ends', async () => {
    const taken = await occupied();
    const { port: tcpPort } = taken.address() as AddressInfo;
    const { exit, stderr } = await cli([
      'conat',
      'serve',
      '--allow-all',
      '--port',
      '0',
      '--tcp-port',
      `${tcpPort}`,
    ]);
    await new Promise((resolve) => taken.close(resolve));
    expect(exit).toBe(1);
    expect(stderr).toContain('CONAT_LISTEN_FAILED');
  });
});

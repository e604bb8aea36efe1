import type { Server } from 'node:http';
import { connect, type Socket } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { apiPrefix } from '@rookery/api';
import { MiB, waitFor } from '@rookery/core';
import { startPostgres, type TestPostgres } from './support/postgres.js';
import { TestHub } from './support/test-hub.js';

let postgres: TestPostgres;
let hub: TestHub;

beforeAll(async () => {
  postgres = await startPostgres();
  hub = await TestHub.start(postgres.url);
});
afterAll(async () => {
  await hub?.close();
  await postgres?.close();
});

/** More than the hub throws away for a client, and what kernels may hold of it on the way. */
const takenBytesMax = 40 * MiB;

interface Upload {
  readonly connection: 'keep-alive' | 'close';
  readonly announced: boolean;
  readonly bytes: number;
  readonly token?: string;
  /** `first`: sends all before it looks at what came, as simple clients do. */
  readonly sends: 'first' | 'until answered' | 'blindly';
}

interface Outcome {
  readonly text: string;
  readonly writtenBytes: number;
  readonly error: string | undefined;
}

/** A client on a bare socket: libraries have opinions of their own about early answers. */
function upload(options: Upload): Promise<Outcome> {
  const { connection, announced, bytes, sends, token = hub.admin.token } = options;
  const socket = connect({ port: hub.port, host: '127.0.0.1', allowHalfOpen: true });
  const head = [
    `POST ${apiPrefix}/projects HTTP/1.1`,
    `Host: 127.0.0.1:${hub.port}`,
    `Authorization: Bearer ${token}`,
    `Connection: ${connection}`,
    announced ? `Content-Length: ${bytes}` : 'Transfer-Encoding: chunked',
  ];
  return new Promise((resolve) => {
    let text = '';
    let error: string | undefined;
    let answered = false;
    socket.on('data', (data) => {
      text += data.toString('latin1');
      answered = true;
    });
    socket.once('error', (cause) => (error = (cause as NodeJS.ErrnoException).code));
    socket.once('end', () => socket.end());
    socket.once('close', () => resolve({ text, writtenBytes: socket.bytesWritten, error }));
    if (sends !== 'until answered') socket.pause();
    socket.write(`${head.join('\r\n')}\r\n\r\n`);
    void pour(socket, options, () => sends === 'until answered' && answered).then(() => {
      if (sends === 'first') socket.resume();
    });
  });
}

async function pour(socket: Socket, options: Upload, enough: () => boolean): Promise<void> {
  const block = Buffer.alloc(64 * 1024, 0x20);
  const chunk = options.announced
    ? block
    : Buffer.concat([Buffer.from('10000\r\n'), block, Buffer.from('\r\n')]);
  for (let sent = 0; sent < options.bytes; sent += block.length) {
    if (enough() || socket.destroyed) return;
    await new Promise<void>((resolve) => socket.write(chunk, () => resolve()));
  }
  if (!options.announced) socket.write('0\r\n\r\n');
}

const ways = [
  { connection: 'keep-alive', announced: true },
  { connection: 'keep-alive', announced: false },
  { connection: 'close', announced: true },
  { connection: 'close', announced: false },
] as const;

function expectRefusal({ text, error }: Outcome, status: number, code: string): void {
  expect(error).toBeUndefined();
  const [head = '', body = ''] = text.split('\r\n\r\n', 2);
  // The server may ask a client that waits for it to go on, before it knows how much comes.
  expect(head).toMatch(new RegExp(`^HTTP/1.1 ${status} `));
  expect(head).toMatch(/^connection: close$/im);
  expect(JSON.parse(body)).toMatchObject({ status, code });
}

describe('a body that is too large', () => {
  it.each(ways)('is refused while it is sent: %j', async (way) => {
    const outcome = await upload({ ...way, bytes: 100 * MiB, sends: 'until answered' });
    expectRefusal(outcome, 413, 'PAYLOAD_TOO_LARGE');
    expect(outcome.writtenBytes).toBeLessThan(takenBytesMax);
  });

  it.each(ways)('is refused also to a client that looks only at its end: %j', async (way) => {
    const outcome = await upload({ ...way, bytes: 4 * MiB, sends: 'first' });
    expectRefusal(outcome, 413, 'PAYLOAD_TOO_LARGE');
  });

  it.each(ways)('is refused to a stranger as to any: %j', async (way) => {
    const outcome = await upload({
      ...way,
      bytes: 4 * MiB,
      sends: 'first',
      token: 'rookery_wrong',
    });
    expectRefusal(outcome, 401, 'UNAUTHENTICATED');
  });

  it('is not taken for ever from clients that never look', async () => {
    const outcomes = await Promise.all(
      ways.map((way) => upload({ ...way, bytes: 200 * MiB, sends: 'blindly' })),
    );
    for (const { error, writtenBytes } of outcomes) {
      expect(error).toMatch(/EPIPE|ECONNRESET/);
      expect(writtenBytes).toBeLessThan(takenBytesMax);
    }
    expect(await hub.ok('GET', '/health')).toMatchObject({ status: 'ok' });
  });

  it('holds no connection afterwards', async () => {
    const server: Server = hub.app.getHttpServer();
    const connections = () =>
      new Promise<number>((resolve) => server.getConnections((_, count) => resolve(count)));
    server.closeIdleConnections();
    await waitFor('all are gone', async () => (await connections()) === 0, { timeoutMs: 10_000 });
  });
});

describe('a body of the right size', () => {
  it('leaves its connection open when it is refused', async () => {
    const socket = connect(hub.port, '127.0.0.1');
    let text = '';
    socket.on('data', (data) => (text += data.toString('latin1')));
    const body = '{"name":';
    const request =
      `POST ${apiPrefix}/projects HTTP/1.1\r\nHost: x\r\nContent-Length: ${body.length}\r\n` +
      `Authorization: Bearer ${hub.admin.token}\r\n\r\n${body}`;
    try {
      for (const count of [1, 2, 3]) {
        socket.write(request);
        await waitFor('an answer', () => text.split('"INVALID_JSON"').length - 1 === count, {
          timeoutMs: 10_000,
        });
      }
      expect(text).not.toMatch(/connection: close/i);
    } finally {
      socket.destroy();
    }
  });
});

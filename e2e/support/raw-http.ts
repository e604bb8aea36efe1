import { request as httpRequest, type IncomingMessage } from 'node:http';
import { connect } from 'node:net';
import { textOf } from '@rookery/harness';

/** An answer as it came over the wire; `code` is that of a problem document. */
export interface RawAnswer {
  readonly status: number;
  readonly type: string;
  readonly code: string | undefined;
}

const answerMsMax = 10_000;

/** Sends a request target exactly as written: clients that know URLs tidy it up first. */
export async function rawGet(url: string, target: string, token: string): Promise<RawAnswer> {
  const { hostname, port, host } = new URL(url);
  const text = await new Promise<string>((resolve, reject) => {
    const socket = connect(Number(port), hostname);
    const chunks: Buffer[] = [];
    socket.setTimeout(answerMsMax, () => socket.destroy(new Error(`no answer to ${target}`)));
    socket.once('error', reject);
    socket.on('data', (chunk) => chunks.push(chunk));
    socket.once('end', () => resolve(Buffer.concat(chunks).toString('utf8')));
    const lines = [`GET ${target} HTTP/1.1`, `Host: ${host}`, `Authorization: Bearer ${token}`];
    socket.write(`${lines.join('\r\n')}\r\nAccept: */*\r\nConnection: close\r\n\r\n`);
  });
  const [head = '', body = ''] = text.split('\r\n\r\n', 2);
  return {
    status: Number(head.split(' ')[1]),
    type: /^content-type: *([^;\r\n]*)/im.exec(head)?.[1] ?? '',
    code: /"code":"([A-Z0-9_]+)"/.exec(body)?.[1],
  };
}

/**
 * Posts a JSON string of `bytes` and stops as soon as the answer comes.
 * @returns the answer and how much had been taken by then
 */
export async function postHuge(
  url: string,
  options: {
    token: string;
    bytes: number;
    announced: boolean;
    connection: 'keep-alive' | 'close';
  },
): Promise<RawAnswer & { sentBytes: number }> {
  const { token, bytes, announced } = options;
  const request = httpRequest(url, {
    method: 'POST',
    agent: false,
    headers: {
      authorization: `Bearer ${token}`,
      'content-type': 'application/json',
      connection: options.connection,
      ...(announced && { 'content-length': bytes }),
    },
  });
  const answered = new Promise<IncomingMessage>((resolve, reject) => {
    request.once('response', resolve);
    request.once('error', reject);
  });
  const chunk = Buffer.alloc(64 * 1024, 'x');
  let sentBytes = 0;
  let over = false;
  const send = async (): Promise<void> => {
    while (!over && sentBytes < bytes) {
      sentBytes += chunk.length;
      await new Promise<void>((resolve) => {
        request.write(chunk, () => resolve());
        answered.then(
          () => resolve(),
          () => resolve(),
        );
      });
    }
  };
  const sending = send();
  try {
    const response = await answered;
    over = true;
    const { code } = JSON.parse(await textOf(response)) as { code?: string };
    const type = response.headers['content-type'] ?? '';
    return { status: response.statusCode ?? 0, type, code, sentBytes };
  } finally {
    over = true;
    request.on('error', () => undefined);
    request.destroy();
    await sending;
  }
}

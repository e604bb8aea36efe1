import { request as httpRequest, type IncomingMessage } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { refuseUpgrade } from './upgrade-dispatcher.js';

export interface UpgradeRelayOptions {
  /** How long the other side may take to accept. */
  readonly timeoutMs?: number;
}

const timeoutMsDefault = 5_000;
/** What a WebSocket's request says that the other side must know; nothing else goes on. */
const passed = ['sec-websocket-key', 'sec-websocket-version', 'sec-websocket-protocol'] as const;

/**
 * Carries a WebSocket to another server, as bytes: nothing in it is read, and who reads slowly
 * slows who writes. Answers 502 when the other side does not take it.
 * @returns when both sides have ended
 */
export async function relayUpgrade(
  request: IncomingMessage,
  socket: Duplex,
  head: Buffer,
  target: string,
  options: UpgradeRelayOptions = {},
): Promise<void> {
  const upstream = await upgrade(request, socket, target, options.timeoutMs ?? timeoutMsDefault);
  if (!upstream) return;
  const { connection, answer, rest } = upstream;
  for (const side of [socket, connection]) if (side instanceof Socket) side.setNoDelay(true);
  socket.write(answer);
  if (rest.length > 0) socket.write(rest);
  if (head.length > 0) connection.write(head);
  await joined(socket, connection);
}

interface Upgraded {
  readonly connection: Duplex;
  readonly answer: string;
  readonly rest: Buffer;
}

function upgrade(
  request: IncomingMessage,
  socket: Duplex,
  target: string,
  timeoutMs: number,
): Promise<Upgraded | null> {
  const headers: Record<string, string> = { connection: 'Upgrade', upgrade: 'websocket' };
  for (const name of passed) {
    const value = request.headers[name];
    if (typeof value === 'string') headers[name] = value;
  }
  const open = target.startsWith('https:') ? httpsRequest : httpRequest;
  return new Promise((resolve) => {
    const asked = open(target, { headers, agent: false, timeout: timeoutMs });
    const gone = (): void => void asked.destroy();
    const refuse = (): void => {
      socket.off('close', gone);
      if (!socket.destroyed) refuseUpgrade(socket, 502);
      resolve(null);
    };
    socket.once('close', gone);
    asked.once('timeout', gone);
    asked.once('error', refuse);
    asked.once('response', (response) => {
      response.destroy();
      refuse();
    });
    asked.once('upgrade', (response, connection, rest) => {
      socket.off('close', gone);
      connection.setTimeout(0);
      if (socket.destroyed) {
        connection.destroy();
        resolve(null);
        return;
      }
      resolve({ connection, answer: answerOf(response), rest });
    });
    asked.end();
  });
}

function answerOf({ headers }: IncomingMessage): string {
  const lines = ['HTTP/1.1 101 Switching Protocols', 'Upgrade: websocket', 'Connection: Upgrade'];
  for (const name of ['sec-websocket-accept', 'sec-websocket-protocol']) {
    const value = headers[name];
    if (typeof value === 'string') lines.push(`${name}: ${value}`);
  }
  return `${lines.join('\r\n')}\r\n\r\n`;
}

/** Until both have ended; the end or failure of one ends the other. */
function joined(a: Duplex, b: Duplex): Promise<void> {
  const ended = [a, b].map(
    (side) =>
      new Promise<void>((resolve) => {
        side.once('close', resolve);
        side.on('error', () => side.destroy());
      }),
  );
  a.once('close', () => b.destroy());
  b.once('close', () => a.destroy());
  a.pipe(b);
  b.pipe(a);
  return Promise.all(ended).then(() => undefined);
}

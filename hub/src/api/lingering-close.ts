import type { IncomingMessage, ServerResponse } from 'node:http';
import { MiB } from '@rookery/core';
import { answersLast } from '@rookery/proxy';
import { announcedBytes, bodyBytesMax } from './body.js';

/** How long a client that is still sending may take to read the answer. */
const lingerMs = 5000;
/** Read and thrown away meanwhile; a client that sends more without looking up has to wait. */
const drainBytesMax = 16 * MiB;

/**
 * Lets an answer reach a client that is still sending its body. Call it before the answer's head.
 *
 * Closing a socket that has unread bytes makes the kernel send a reset, and a reset makes the
 * client's kernel or library forget the answer that came before it. So the connection is closed in
 * three steps, as nginx does: the answer and our half of the connection (FIN) first; then what
 * still comes is thrown away, within limits of bytes and time; then the rest.
 *
 * A short body is none of this: Node reads it off the connection, which goes on.
 */
export function answerBeforeBodyEnds(request: IncomingMessage, response: ServerResponse): void {
  const { socket } = request;
  if (request.complete || socket.destroyed) return;
  const stays = announcedBytes(request) <= bodyBytesMax && response.shouldKeepAlive;
  if (stays) return;
  response.setHeader('connection', 'close');
  answersLast(request);
  // Node drains without a limit what nobody has begun to read: so begin, and stop.
  request.pause().read();
  request.on('error', () => undefined);
  // Also for a client that does not read the answer.
  const timer = setTimeout(() => socket.destroy(), lingerMs);
  socket.once('close', () => clearTimeout(timer));
  // Node calls this when the last answer of a connection was handed over.
  socket.destroySoon = () => {
    socket.end();
    drain(request);
  };
}

function drain(request: IncomingMessage): void {
  const { socket } = request;
  let left = drainBytesMax;
  request.removeAllListeners('data');
  request.on('data', (chunk: Buffer) => {
    left -= chunk.length;
    if (left < 0) request.pause();
  });
  // The client has sent all and hung up: nothing is left that could be lost.
  socket.once('end', () => socket.destroy());
  request.resume();
}

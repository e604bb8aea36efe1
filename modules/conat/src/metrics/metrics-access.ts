import type { IncomingMessage } from 'node:http';
import { isIP } from 'node:net';
import { bearerToken } from '@rookery/core';
import { sameSecret } from '../auth/proofs.js';

/** Headers of proxies: a request that came through one is not of this machine. */
const forwarding = ['forwarded', 'x-forwarded-for', 'x-real-ip', 'via'];

/**
 * Who may read an app's metrics: programs of its own machine, and whoever shows the token
 * (`Authorization: Bearer …`). With a token, nobody without it.
 */
export function mayReadMetrics(request: IncomingMessage, token: string | undefined): boolean {
  if (token !== undefined) {
    return sameSecret(bearerToken(request.headers.authorization), token);
  }
  if (forwarding.some((name) => request.headers[name] !== undefined)) return false;
  return isLoopback(request.socket.remoteAddress ?? '') && isOwnName(request.headers.host ?? '');
}

const isLoopback = (address: string): boolean =>
  /^(::1|(::ffff:)?127\.\d+\.\d+\.\d+)$/.test(address);

/** A name of somebody else that leads here is a browser's, led astray. */
function isOwnName(host: string): boolean {
  const name = host.replace(/:\d+$/, '').replace(/^\[|\]$/g, '');
  return name === 'localhost' || isIP(name) !== 0;
}

import { pipeline } from 'node:stream/promises';
import type { DuplexCall, DuplexContext } from './contract/service.js';

/**
 * Joins a duplex call that we serve to one that we made, for example an account's exec at the hub
 * to the host that has the project. Backpressure, control messages, cancel and errors pass through.
 */
export async function relayDuplex<O, C>(
  served: DuplexContext<C>,
  call: DuplexCall<O, C>,
): Promise<O> {
  const onAbort = (): void => call.cancel();
  served.signal.addEventListener('abort', onAbort, { once: true });
  if (served.signal.aborted) call.cancel();
  served.onControl((message) => call.control(message));
  // The callee may end without reading what is left of stdin.
  pipeline(served.stdin, call.stdin).catch(() => undefined);
  const outputs = Promise.allSettled([
    pipeline(call.stdout, served.stdout),
    pipeline(call.stderr, served.stderr),
  ]);
  try {
    const output = await call.result;
    await outputs;
    return output;
  } finally {
    served.signal.removeEventListener('abort', onAbort);
  }
}

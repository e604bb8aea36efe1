import { WebSocket } from 'ws';
import { ConatErrors, type SocketLike } from '@rookery/conat';

/** A way to a broker. */
export interface DialTarget {
  /** `ws://…/conat`; also http, https, wss. */
  readonly url: string;
  /** Of the WebSocket's own request; what opens a relay. */
  readonly headers?: Readonly<Record<string, string>>;
  /** How long to wait for it before the next is tried. */
  readonly timeoutMs: number;
}

/**
 * Opens the first of the targets that answers, in their order.
 * @param failed hears of those that did not
 * @throws CONAT_UNREACHABLE when none did
 */
export async function dialFirst(
  targets: readonly DialTarget[],
  signal: AbortSignal,
  failed: (target: DialTarget) => void,
): Promise<SocketLike> {
  let reason = 'it has no address';
  for (const target of targets) {
    signal.throwIfAborted();
    try {
      return (await opened(target, signal)) as unknown as SocketLike;
    } catch (error) {
      reason = (error as Error).message;
      if (!signal.aborted) failed(target);
    }
  }
  throw ConatErrors.CONAT_UNREACHABLE({ url: targets.map(({ url }) => url).join(), reason });
}

function opened(target: DialTarget, signal: AbortSignal): Promise<WebSocket> {
  const socket = new WebSocket(target.url.replace(/^http/, 'ws'), {
    perMessageDeflate: false,
    handshakeTimeout: target.timeoutMs,
    headers: { ...target.headers },
  });
  return new Promise((resolve, reject) => {
    const abort = (): void => socket.terminate();
    signal.addEventListener('abort', abort, { once: true });
    socket.on('error', reject);
    socket.once('close', () => {
      signal.removeEventListener('abort', abort);
      reject(new Error('closed while it was opened'));
    });
    socket.once('open', () => {
      signal.removeEventListener('abort', abort);
      // The broker speaks first: nothing may come before somebody listens.
      socket.pause();
      setImmediate(() => socket.resume());
      resolve(socket);
    });
  });
}

import { createServer } from 'node:http';
import type { CodedError } from '@rookery/core';

/** How long a host that cannot serve says why before it tries again from the beginning. */
const sayWhyMs = 10_000;

/**
 * Answers every request with what keeps this host from serving, for supervisors, load balancers and
 * people who look; its supervisor then starts it again.
 */
export async function sayWhyUnready(
  error: CodedError,
  at: { readonly port: number; readonly host: string },
  signal?: AbortSignal,
): Promise<void> {
  const server = createServer((_request, response) => {
    const { code, message } = error;
    response.writeHead(503, { 'content-type': 'application/json' });
    response.end(JSON.stringify({ status: 'error', error: { code, message } }));
  });
  server.listen(at);
  await new Promise<void>((resolve) => {
    const timer = setTimeout(resolve, sayWhyMs);
    signal?.addEventListener('abort', () => {
      clearTimeout(timer);
      resolve();
    });
    // Without the port there is nothing to say.
    server.once('error', () => {
      clearTimeout(timer);
      resolve();
    });
  });
  server.closeAllConnections();
  server.close();
}

import { projectStreams } from '@rookery/api';
import type { ConatAccess, ConatConnection } from './conat-access.js';

const connectTimeoutMs = 15_000;
const inboxRoot = '_INBOX.';

/**
 * Opens messaging as NATS over WebSocket. Loaded when the first stream is opened: most uses of the
 * SDK are plain requests.
 * @param access asked again for every connect, so that tokens may be short-lived
 */
export async function connectOverWebSocket(
  access: () => Promise<ConatAccess>,
): Promise<ConatConnection> {
  const { ConatClient } = await import('@rookery/conat');
  const { createServiceClient } = await import('@rookery/rpc');
  let first: ConatAccess | undefined = await access();
  const client = await ConatClient.connect({
    servers: first.url,
    identity: first.inboxPrefix.slice(inboxRoot.length).replace(/\.$/, ''),
    credentials: async () => {
      const { token } = first ?? (await access());
      first = undefined;
      return { token };
    },
    connectTimeoutMs,
    name: 'rookery client',
  });
  return {
    streamsOf: (projectId) => createServiceClient(client, projectStreams, { projectId }),
    get closed() {
      return client.status === 'closed';
    },
    close: () => client.close(),
  };
}

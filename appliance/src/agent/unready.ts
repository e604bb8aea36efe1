import { createServer } from 'node:http';
import { ConatClient } from '@rookery/conat';
import { createServiceClient } from '@rookery/rpc';
import { hostReports, identityNames } from '@rookery/fleet/contract';
import { createLogger, onSupervisorGone, type CodedError } from '@rookery/core';
import { configFromEnvironment, type HostConfig } from '../config/config.js';
import { openDatabase } from '../database/database.js';
import { HostRecord } from '../hub/host-record.js';
import { conatUrl } from '../hub/hub-link.js';
import { loadIdentity } from '../identity/identity.js';

/** What a disk that comes back mends. */
const mendedOutside: readonly string[] = ['VOLUME_ABSENT', 'VOLUME_FOREIGN'];
const connectTimeoutMs = 5_000;

/** How long a host that cannot serve says why before it tries again from the beginning. */
const sayWhyMs = 10_000;

/** Says to whoever asks, and to the hub, what keeps this host from serving. Its process ends then. */
export async function endUnready(error: CodedError): Promise<void> {
  const config = configFromEnvironment();
  onSupervisorGone(() => process.exit(0));
  const told = tellHub(config, error);
  // Tried again for ever, and told meanwhile.
  if (mendedOutside.includes(error.code)) {
    await sayWhyUnready(error, { port: config.agentPort, host: config.listen });
  }
  await told;
}

/**
 * A host that does not serve would only be away for its hub. One that has never joined is unknown
 * there; a hub that does not answer, or does not know the message, hears nothing.
 */
async function tellHub(config: HostConfig, error: CodedError): Promise<void> {
  const logger = createLogger('agent', config.logLevel);
  try {
    await using resources = new AsyncDisposableStack();
    const database = await openDatabase(config.paths.database);
    resources.defer(() => database.close());
    const host = await new HostRecord(database, () => undefined).get();
    if (!host) return;
    const { hostId } = host;
    const { identitySeed } = await loadIdentity(config.paths.keys, database);
    const client = await ConatClient.connect({
      servers: conatUrl(config.hubUrl),
      identity: identityNames.host(hostId),
      credentials: { nkeySeed: identitySeed },
      connectTimeoutMs,
      logger,
    });
    resources.defer(() => client.close());
    const { code, message, status, retryable } = error;
    await createServiceClient(client, hostReports, { hostId }).trouble({
      error: { code, message, status, retryable },
    });
  } catch (failure) {
    logger.warn({ err: failure }, 'the hub could not be told why this host does not serve');
  }
}

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

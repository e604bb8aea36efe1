import {
  Broker,
  JetStream,
  RootAccountDirectory,
  serveBroker,
  StandaloneAuthenticator,
  type StandaloneServer,
} from '@rookery/conat';
import type { CommandModule } from '../cli.js';
import { usageError } from '../cli.errors.js';
import { atLeastOne, bytes, count, portOrAny } from '../parameters.js';
import { readSecret } from '../conat/broker-options.js';
import type { CommandRun, GlobalOptions } from '../run.js';
import { examples } from './examples.js';

interface ServeOptions extends GlobalOptions {
  readonly host: string;
  readonly port: number;
  readonly tcpPort?: number;
  readonly tokenFile?: string;
  readonly store?: string;
  readonly allowAll?: boolean;
  readonly name: string;
  readonly maxPayload?: number;
  readonly maxConnections: number;
  readonly drain: number;
}

const portDefault = 4280;
const loopback = new Set(['127.0.0.1', '::1', 'localhost']);

/** Messaging: a broker on its own, without a hub. The rest of the group needs a broker. */
export const conatCommands: CommandModule = (program, cli) => {
  const conat = program
    .command('conat')
    .description('messages, streams and key-value buckets; a broker of your own');
  conat
    .command('serve')
    .description('run a broker that any NATS client can use; Ctrl-C drains and stops it')
    .option('--host <address>', 'address to listen on', '127.0.0.1')
    .option('--port <port>', 'for WebSocket, /metrics and /healthz', portOrAny, portDefault)
    .option('--tcp-port <port>', 'also listen for NATS over TCP, usually on 4222', portOrAny)
    .option('--store <dir>', 'keep streams and key-value buckets (JetStream) in this folder')
    .option('--token-file <path>', 'file with the token that clients show (or --token)')
    .option('--allow-all', 'let everybody in, with every right')
    .option('--name <name>', 'name of the server, shown to clients', 'conat')
    .option('--max-payload <size>', 'largest message (default: 1M)', bytes)
    .option('--max-connections <number>', 'connections at a time', atLeastOne, 65_536)
    .option('--drain <seconds>', 'how long clients may take to leave at the end', count, 2)
    .addHelpText(
      'after',
      `
Clients connect to ws://<host>:<port>/conat, or to nats://<host>:<tcp-port>, with the token as
token or password. One of --token, --token-file and --allow-all is needed.
${examples(
  'rookery conat serve --allow-all --tcp-port 4222',
  'rookery conat serve --allow-all --store /var/lib/conat',
  'rookery conat serve --host 0.0.0.0 --token-file /etc/rookery/conat-token',
  'nats --server nats://127.0.0.1:4222 sub ">"',
)}`,
    )
    .action(
      cli.action<ServeOptions>(async (run, _, options) => {
        const token = await tokenOf(options);
        const serve = serving(options, token);
        const jetStream = await persistence(serve.broker, options.store);
        const server = await serveBroker(serve);
        if (token === undefined && !loopback.has(options.host)) {
          run.progress.step(`everybody who reaches ${options.host} may read and write everything`);
        }
        await untilStopped(run, server, options.drain * 1_000);
        await jetStream?.close();
        return { json: null, silent: true };
      }),
    );
};

async function tokenOf(options: ServeOptions): Promise<string | undefined> {
  const { token, tokenFile, allowAll = false } = options;
  const given = [token, tokenFile, allowAll || undefined].filter((one) => one !== undefined);
  if (given.length !== 1) throw usageError('give one of --token, --token-file and --allow-all');
  if (allowAll) return undefined;
  const text = token ?? (await readSecret(tokenFile!));
  if (text === '') throw usageError('the token is empty');
  return text;
}

/** Everything that was stored is read before the first client is let in. */
async function persistence(broker: Broker, folder?: string): Promise<JetStream | null> {
  if (folder === undefined) return null;
  const jetStream = new JetStream({ broker });
  await jetStream.start(await new RootAccountDirectory(folder).list());
  return jetStream;
}

function serving(
  options: ServeOptions,
  token: string | undefined,
): Parameters<typeof serveBroker>[0] {
  const { host, maxPayload, maxConnections } = options;
  const broker = new Broker({
    authenticator: new StandaloneAuthenticator(token),
    name: options.name,
    limits: {
      ...(maxPayload !== undefined && { payloadBytesMax: maxPayload }),
      // Identities and addresses say little here, so they are no reason for a smaller share.
      connectionsMax: maxConnections,
      connectionsPerIdentityMax: maxConnections,
      connectionsPerAddressMax: maxConnections,
    },
  });
  return {
    broker,
    host,
    port: options.port,
    ...(options.tcpPort !== undefined && { tcp: { host, port: options.tcpPort } }),
  };
}

function started(server: StandaloneServer): { json: unknown; text: string } {
  const { url, tcp } = server;
  const nats = tcp && `nats://${tcp.host}:${tcp.port}`;
  const metrics = url.replace(/^ws(.*)\/conat$/, 'http$1/metrics');
  return {
    json: { url, nats: nats ?? null, metrics },
    text: [
      `WebSocket  ${url}`,
      ...(nats ? [`NATS       ${nats}`] : []),
      `Metrics    ${metrics}`,
      'Ctrl-C stops.',
    ].join('\n'),
  };
}

/** Until a signal; the first asks for the end, the second does not wait for it. */
async function untilStopped(
  run: CommandRun,
  server: StandaloneServer,
  drainMs: number,
): Promise<void> {
  const asked = Promise.withResolvers<void>();
  const insisted = Promise.withResolvers<void>();
  let signals = 0;
  const onSignal = (): void => {
    signals += 1;
    (signals === 1 ? asked : insisted).resolve();
  };
  const unlisten = (['SIGINT', 'SIGTERM'] as const).map((name) => run.io.onSignal(name, onSignal));
  try {
    await run.print(started(server));
    await asked.promise;
    run.progress.step('draining: clients may finish; Ctrl-C again stops at once');
    await Promise.race([server.close(drainMs), insisted.promise]);
    run.progress.step('stopped');
  } finally {
    for (const end of unlisten) end();
  }
}

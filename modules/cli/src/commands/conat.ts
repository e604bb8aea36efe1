import { Option } from 'commander';
import {
  Broker,
  configuredBroker,
  readServerConfig,
  serveBroker,
  StandaloneAuthenticator,
  type AccountConfig,
  type StandaloneOptions,
  type StandaloneServer,
} from '@rookery/conat';
import { JetStream, openAccounts } from '@rookery/jetstream';
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
  readonly drain?: number;
  readonly httpPort?: number;
  readonly config?: string;
}

const portDefault = 4280;
const drainSecondsDefault = 2;
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
    .option('--http-port <port>', 'pages for dashboards: /varz, /connz, /jsz, /healthz', portOrAny)
    .addOption(
      new Option(
        '--config <file>',
        'settings, users and TLS in a file of nats-server’s form',
      ).conflicts(
        ['host', 'port', 'tcpPort', 'store', 'tokenFile', 'allowAll', 'name', 'maxPayload'].concat([
          'maxConnections',
          'httpPort',
        ]),
      ),
    )
    .option('--drain <seconds>', 'how long clients may take to leave (default: 2)', count)
    .addHelpText(
      'after',
      `
Clients connect to ws://<host>:<port>/conat, or to nats://<host>:<tcp-port>, with the token as
token or password. One of --token, --token-file, --allow-all and --config is needed.
A setting in the file that is not supported is refused by its name.
${examples(
  'rookery conat serve --allow-all --tcp-port 4222',
  'rookery conat serve --allow-all --store /var/lib/conat',
  'rookery conat serve --config /etc/nats-server.conf',
  'rookery conat serve --host 0.0.0.0 --token-file /etc/rookery/conat-token',
  'nats --server nats://127.0.0.1:4222 sub ">"',
)}`,
    )
    .action(
      cli.action<ServeOptions>(async (run, _, options) => {
        const { serve, host, drainMs, accounts } =
          options.config === undefined
            ? await fromOptions(options)
            : fromFile(options, options.config, run.io.env);
        const jetStream = await persistence(serve.broker, serve.storeDir, accounts);
        const server = await serveBroker({
          ...serve,
          ...(jetStream && { persistence: jetStream }),
        });
        if (!serve.broker.facts().authRequired && !loopback.has(host)) {
          run.progress.step(`everybody who reaches ${host} may read and write everything`);
        }
        await untilStopped(run, server, drainMs);
        await jetStream?.close();
        return { json: null, silent: true };
      }),
    );
};

async function tokenOf(options: ServeOptions): Promise<string | undefined> {
  const { token, tokenFile, allowAll = false } = options;
  const given = [token, tokenFile, allowAll || undefined].filter((one) => one !== undefined);
  if (given.length !== 1) {
    throw usageError('give one of --token, --token-file, --allow-all and --config');
  }
  if (allowAll) return undefined;
  const text = token ?? (await readSecret(tokenFile!));
  if (text === '') throw usageError('the token is empty');
  return text;
}

/** Everything that was stored is read before the first client is let in. */
async function persistence(
  broker: Broker,
  folder: string | undefined,
  accounts: readonly AccountConfig[],
): Promise<JetStream | null> {
  if (folder === undefined) return null;
  const jetStream = new JetStream();
  await jetStream.start(broker);
  await openAccounts(jetStream, broker, folder, accounts);
  return jetStream;
}

interface Serving {
  readonly serve: StandaloneOptions;
  /** Where it listens for everybody to reach it. */
  readonly host: string;
  readonly drainMs: number;
  readonly accounts: readonly AccountConfig[];
}

async function fromOptions(options: ServeOptions): Promise<Serving> {
  const { host, port, tcpPort, httpPort, maxPayload, maxConnections, store } = options;
  const broker = new Broker({
    authenticator: new StandaloneAuthenticator(await tokenOf(options)),
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
    serve: {
      broker,
      host,
      port,
      ...(store !== undefined && { storeDir: store }),
      ...(tcpPort !== undefined && { tcp: { host, port: tcpPort } }),
      ...(httpPort !== undefined && { monitoring: { host, port: httpPort } }),
    },
    host,
    accounts: [],
    drainMs: (options.drain ?? drainSecondsDefault) * 1_000,
  };
}

/** As nats-server with this file: over TCP, and over WebSocket when it says so. */
function fromFile(options: ServeOptions, file: string, env: NodeJS.ProcessEnv): Serving {
  if (options.token !== undefined) throw usageError('who may come in is said by --config alone');
  const config = readServerConfig(file, env);
  const { tcp, webSocket, monitoring, storeDir } = config;
  const broker = configuredBroker(config, options.name);
  return {
    accounts: config.accounts,
    serve: {
      broker,
      tcp,
      ...(webSocket ?? { port: null }),
      ...(storeDir !== null && { storeDir }),
      ...(monitoring && { monitoring }),
    },
    host: tcp.host,
    drainMs:
      options.drain === undefined
        ? (config.drainMs ?? drainSecondsDefault * 1_000)
        : options.drain * 1_000,
  };
}

function started(server: StandaloneServer): { json: unknown; text: string } {
  const { url, tcp, monitoring } = server;
  const nats = tcp && `nats://${tcp.host}:${tcp.port}`;
  const metrics = url === '' ? null : url.replace(/^ws(.*)\/conat$/, 'http$1/metrics');
  return {
    json: { url: url || null, nats: nats ?? null, metrics, monitoring: monitoring ?? null },
    text: [
      ...(url ? [`WebSocket  ${url}`] : []),
      ...(nats ? [`NATS       ${nats}`] : []),
      ...(metrics ? [`Metrics    ${metrics}`] : []),
      ...(monitoring ? [`Monitoring ${monitoring}`] : []),
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

import type { CommandModule } from '../cli.js';
import { brokerAction } from '../conat/action.js';
import { withBroker } from '../conat/broker-options.js';
import type { BrokerSession } from '../conat/broker-session.js';
import { codedFailure } from '../conat/failures.js';
import { MetricsText } from '../conat/metrics-text.js';
import { counted, size } from '../output/format.js';
import { fields } from '../output/table.js';
import { atLeastOne } from '../parameters.js';
import type { CommandRun } from '../run.js';
import { existingGroup } from './groups.js';
import { examples } from './examples.js';
import { toCodedError } from '@rookery/core';

interface StatusOptions {
  readonly server?: string;
  readonly metrics?: string;
  readonly metricsToken?: string;
  readonly pings: number;
}

const metricsTimeoutMs = 5_000;
const metricsBytesMax = 4 * 1024 * 1024;

/** How a broker does: from its own words, its metrics and a few round trips. */
export const conatStatusCommands: CommandModule = (program, cli) => {
  withBroker(existingGroup(program, 'conat').command('status'))
    .description('a broker’s connections, messages, stores and round-trip times')
    .option('--metrics <url>', 'where its metrics are (default: /metrics beside a WebSocket)')
    .option('--metrics-token <token>', 'for metrics that want one (or ROOKERY_METRICS_TOKEN)')
    .option('--pings <number>', 'round trips to measure', atLeastOne, 10)
    .addHelpText(
      'after',
      `
Metrics are shown on the broker's own machine, or with the token of its settings. Without them
there is still what the broker says of itself to a client.
${examples(
  'rookery conat status',
  'rookery conat status --server ws://127.0.0.1:4280/conat --json',
  'rookery conat status -p shop',
)}`,
    )
    .action(
      brokerAction<StatusOptions>(cli, async (run, session, _, options) => {
        const report = {
          server: serverView(session),
          rttMs: await roundTrips(session, options.pings),
          jetStream: await accountOf(session),
          ...(await metricsOf(run, session, options)),
        };
        return { json: report, text: statusText(report) };
      }),
    );
};

type Report = {
  readonly server: ReturnType<typeof serverView>;
  readonly rttMs: Awaited<ReturnType<typeof roundTrips>>;
  readonly jetStream: Awaited<ReturnType<typeof accountOf>>;
} & Awaited<ReturnType<typeof metricsOf>>;

function serverView({ nats, url, space }: BrokerSession) {
  const info = nats.info!;
  return {
    url,
    project: space.projectId ?? null,
    name: info.server_name,
    id: info.server_id,
    version: info.version,
    jetStream: info.jetstream === true,
    payloadBytesMax: info.max_payload,
    clientAddress: info.client_ip ?? null,
  };
}

async function roundTrips({ nats }: BrokerSession, pings: number) {
  const took: number[] = [];
  for (let i = 0; i < pings; i += 1) {
    const from = performance.now();
    await nats.flush();
    took.push(performance.now() - from);
  }
  took.sort((a, b) => a - b);
  const rounded = (ms: number): number => Math.round(ms * 1_000) / 1_000;
  return {
    min: rounded(took[0]!),
    median: rounded(took[Math.floor(took.length / 2)]!),
    max: rounded(took.at(-1)!),
    samples: took.length,
  };
}

/** What persistence says of itself; null where there is none, or none that we may see. */
async function accountOf(session: BrokerSession) {
  try {
    const manager = await session.manager();
    const { streams, consumers, storage, memory } = await manager.getAccountInfo();
    return { streams, consumers, fileBytes: storage, memoryBytes: memory };
  } catch (error) {
    const { code } = toCodedError(codedFailure(error));
    if (code === 'CONAT_CONNECTION_LOST') throw error;
    return null;
  }
}

async function metricsOf(run: CommandRun, session: BrokerSession, options: StatusOptions) {
  const url = options.metrics ?? metricsUrl(session.url);
  if (url === undefined) return { metricsUrl: null, metrics: null, metricsProblem: null };
  const problem = (reason: string) => ({ metricsUrl: url, metrics: null, metricsProblem: reason });
  try {
    const token = options.metricsToken ?? run.environment.metricsToken;
    const response = await fetch(url, {
      headers: token === undefined ? {} : { authorization: `Bearer ${token}` },
      redirect: 'error',
      signal: AbortSignal.any([run.signal, AbortSignal.timeout(metricsTimeoutMs)]),
    });
    if (!response.ok) {
      await response.body?.cancel();
      return problem(`${url} answers ${response.status}`);
    }
    const length = Number(response.headers.get('content-length') ?? 0);
    if (length > metricsBytesMax) return problem(`${url} is larger than expected`);
    const text = new MetricsText(await response.text());
    if (text.sum('conat_subscriptions') === undefined) return problem(`${url} is not a broker’s`);
    return { metricsUrl: url, metrics: metricsView(text), metricsProblem: null };
  } catch (error) {
    const { message, cause } = error as Error;
    return problem(cause instanceof Error ? cause.message : message);
  }
}

/** Beside the WebSocket; NATS over TCP does not tell, nor does the way to a project's host. */
function metricsUrl(brokerUrl: string): string | undefined {
  const url = new URL(brokerUrl);
  if (url.protocol === 'nats:' || url.protocol === 'route:') return undefined;
  return new URL('/metrics', url.href.replace(/^ws/, 'http')).href;
}

function metricsView(text: MetricsText) {
  const of = (name: string): number => text.sum(`conat_${name}`) ?? 0;
  const pings = of('ping_seconds_count');
  const commits = of('jetstream_commit_seconds_count');
  const hasStores = text.sum('conat_jetstream_accounts') !== undefined;
  const milliseconds = (name: string, count: number): number | null =>
    count === 0 ? null : Math.round((of(`${name}_sum`) / count) * 1e6) / 1e3;
  return {
    connections: text.by('conat_connections', 'transport'),
    connectionsOpened: of('connections_opened_total'),
    connectionsClosed: text.by('conat_connections_closed_total', 'reason'),
    identities: of('identities'),
    subscriptions: of('subscriptions'),
    messagesIn: of('messages_in_total'),
    messagesOut: of('messages_out_total'),
    bytesIn: of('bytes_in_total'),
    bytesOut: of('bytes_out_total'),
    keptBytes: of('kept_bytes'),
    slowConsumers: of('slow_consumers_total'),
    violations: of('violations_total'),
    throttled: of('throttled_total'),
    clientRttMs: milliseconds('ping_seconds', pings),
    stores: hasStores
      ? {
          accounts: of('jetstream_accounts'),
          fenced: of('jetstream_accounts_fenced'),
          quarantined: of('jetstream_accounts_quarantined'),
          openFiles: of('jetstream_open_files'),
          publishes: of('jetstream_publishes_total'),
          acks: of('jetstream_acks_total'),
          refused: of('jetstream_refused_total'),
          commits: of('jetstream_commits_total'),
          commitMs: milliseconds('jetstream_commit_seconds', commits),
        }
      : null,
  };
}

function statusText(report: Report): string {
  const { server, rttMs, jetStream, metrics } = report;
  return fields({
    Broker: `${server.name} (${server.version}) at ${server.url}`,
    Project: server.project ?? undefined,
    'Round trip': `${rttMs.median} ms (${rttMs.min} to ${rttMs.max}, ${counted(rttMs.samples, 'sample')})`,
    'Largest message': size(server.payloadBytesMax),
    Persistence: jetStream
      ? `${counted(jetStream.streams, 'stream')}, ${counted(jetStream.consumers, 'consumer')}, ${size(jetStream.fileBytes)}`
      : 'none that you may see',
    ...(metrics ? metricsLines(metrics) : { Metrics: report.metricsProblem ?? undefined }),
  });
}

function metricsLines(metrics: ReturnType<typeof metricsView>): Record<string, string | undefined> {
  const { connections, stores } = metrics;
  const now = Object.entries(connections).map(([transport, count]) => `${count} ${transport}`);
  return {
    Connections: `${now.join(', ')}; ${metrics.connectionsOpened} in all`,
    Subscriptions: String(metrics.subscriptions),
    Messages: `${metrics.messagesIn} in, ${metrics.messagesOut} out`,
    Bytes: `${size(metrics.bytesIn)} in, ${size(metrics.bytesOut)} out, ${size(metrics.keptBytes)} waiting`,
    Refused: `${counted(metrics.violations, 'violation')}, ${counted(metrics.slowConsumers, 'slow consumer')}`,
    'Clients answer in': metrics.clientRttMs === null ? undefined : `${metrics.clientRttMs} ms`,
    Stores: stores
      ? `${stores.accounts} served, ${stores.openFiles} open, ${stores.fenced} fenced, ` +
        `${stores.quarantined} damaged`
      : undefined,
    Commits: stores
      ? `${stores.commits} for ${counted(stores.publishes, 'message')}` +
        (stores.commitMs === null ? '' : `, ${stores.commitMs} ms each`)
      : undefined,
  };
}

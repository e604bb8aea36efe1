import { availableParallelism } from 'node:os';
import type { Broker } from '../broker/broker.js';
import { systemTime } from '../broker/system-time.js';
import { formatTime, msToNs } from '../broker/times.js';
import type { Persistence } from '../persistence.js';

const nsPerMs = 1e6;

/** What the pages are about. */
export interface Monitored {
  readonly broker: Broker;
  readonly persistence: Persistence | null;
  readonly startedAtMs: number;
  /** Where streams are kept. */
  readonly storeDir?: string;
  readonly tlsRequired: boolean;
  readonly webSocket: {
    readonly host: string;
    readonly port: number;
    readonly tls: boolean;
  } | null;
  readonly tcp: { readonly host: string; readonly port: number } | undefined;
  readonly http: { readonly host: string; readonly port: number };
}

/** What `/jsz` says in all. */
export type JetStreamStats = Readonly<Record<string, unknown>>;

/** How long, as nats-server writes it: `2d3h4m5s`. */
export function uptime(ms: number): string {
  const seconds = Math.max(0, Math.floor(ms / 1_000));
  const parts = [
    [Math.floor(seconds / 86_400), 'd'],
    [Math.floor(seconds / 3_600) % 24, 'h'],
    [Math.floor(seconds / 60) % 60, 'm'],
    [seconds % 60, 's'],
  ] as const;
  const from = parts.findIndex(([count]) => count > 0);
  return from < 0
    ? '0s'
    : parts
        .slice(from)
        .map(([count, unit]) => `${count}${unit}`)
        .join('');
}

/** `/varz`: the server, its limits and its counters. */
export function varz(
  monitored: Monitored,
  requests: Readonly<Record<string, number>>,
  stats: JetStreamStats,
): object {
  const { broker, startedAtMs, tcp, http } = monitored;
  const { limits, metrics } = broker;
  const facts = broker.facts();
  const nowMs = Date.now();
  const stale = metrics.closed['stale connection'] ?? 0;
  const opened = Object.values(metrics.connectionsOpened).reduce((sum, count) => sum + count, 0);
  return {
    server_id: facts.id,
    server_name: facts.name,
    version: facts.version,
    proto: 1,
    go: facts.runtime,
    host: tcp?.host ?? http.host,
    port: tcp?.port ?? 0,
    ...(facts.authRequired && { auth_required: true }),
    ...(monitored.tlsRequired && { tls_required: true }),
    max_connections: limits.connectionsMax,
    max_subscriptions: limits.subscriptionsPerConnectionMax,
    ping_interval: limits.pingEveryMs * nsPerMs,
    ping_max: limits.pingsOutMax,
    http_host: http.host,
    http_port: http.port,
    http_base_path: '',
    https_port: 0,
    auth_timeout: limits.authTimeoutMs / 1_000,
    max_control_line: limits.controlLineBytesMax,
    max_payload: limits.payloadBytesMax,
    max_pending: limits.pendingBytesMax,
    cluster: {},
    gateway: {},
    leaf: {},
    mqtt: {},
    websocket: webSocketOf(monitored),
    jetstream: jetStreamOf(monitored, stats),
    start: formatTime(msToNs(startedAtMs)),
    now: systemTime(),
    uptime: uptime(nowMs - startedAtMs),
    mem: process.memoryUsage.rss(),
    cores: availableParallelism(),
    gomaxprocs: availableParallelism(),
    cpu: cpuPercent(),
    connections: broker.connectionCount,
    total_connections: opened,
    routes: 0,
    remotes: 0,
    leafnodes: 0,
    in_msgs: metrics.messagesIn,
    out_msgs: metrics.messagesOut,
    in_bytes: metrics.bytesIn,
    out_bytes: metrics.bytesOut,
    in_client_msgs: metrics.messagesIn,
    in_client_bytes: metrics.bytesIn,
    out_client_msgs: metrics.messagesOut,
    out_client_bytes: metrics.bytesOut,
    slow_consumers: metrics.slowConsumers,
    slow_consumer_stats: ofClients(metrics.slowConsumers),
    stale_connections: stale,
    stale_connection_stats: ofClients(stale),
    stalled_clients: metrics.throttled,
    subscriptions: broker.subscriptionCount,
    http_req_stats: requests,
    config_load_time: formatTime(msToNs(startedAtMs)),
  };
}

/** Nobody but clients comes here. */
const ofClients = (clients: number): object => ({ clients, routes: 0, gateways: 0, leafs: 0 });

function webSocketOf({ webSocket }: Monitored): object {
  if (!webSocket) return {};
  const { host, port, tls } = webSocket;
  return { host, port, ...(!tls && { no_tls: true }) };
}

function jetStreamOf({ persistence, storeDir }: Monitored, stats: JetStreamStats): object {
  if (!persistence) return {};
  const { memory, storage, reserved_memory, reserved_storage, accounts, ha_assets, api } = stats;
  return {
    config: jetStreamConfig(storeDir),
    stats: { memory, storage, reserved_memory, reserved_storage, accounts, ha_assets, api },
    limits: {},
  };
}

/** What is acknowledged is on the disk, and unknown keys of requests are refused. */
export const jetStreamConfig = (storeDir = ''): object => ({
  max_memory: -1,
  max_storage: -1,
  store_dir: storeDir,
  sync_always: true,
  strict: true,
});

/** Of one core, since the process began. */
function cpuPercent(): number {
  const { user, system } = process.cpuUsage();
  return Math.round((user + system) / (process.uptime() * 1e4)) || 0;
}

import { Counter, Gauge, Histogram, Registry } from 'prom-client';
import type { Broker } from '../broker/broker.js';
import { fabricMetrics } from './fabric-metrics.js';

/** The content type of {@link brokerMetrics}. */
export const brokerMetricsType = Registry.PROMETHEUS_CONTENT_TYPE;

const registries = new WeakMap<Broker, Registry>();

/**
 * The broker's metrics as a `prom-client` registry, for apps that merge several. Labels have a
 * fixed set of values (transport, reason): no subject, identity or address ever becomes one.
 */
export function brokerRegistry(broker: Broker): Registry {
  let registry = registries.get(broker);
  if (!registry) {
    registry = new Registry();
    counters(registry, broker);
    connections(registry, broker);
    gauges(registry, broker);
    roundTrips(registry, broker);
    fabricMetrics(registry, broker.fabric);
    registries.set(broker, registry);
  }
  return registry;
}

/** The broker's metrics as text that Prometheus reads; apps serve it where they want it. */
export function brokerMetrics(broker: Broker): Promise<string> {
  return brokerRegistry(broker).metrics();
}

/** The broker's own counters are plain numbers; they are looked at when somebody asks. */
function counters(registry: Registry, { metrics }: Broker): void {
  const counter = (name: string, help: string, value: () => number): void => {
    new Counter({
      name: `conat_${name}_total`,
      help,
      registers: [registry],
      collect() {
        this.reset();
        this.inc(value());
      },
    });
  };
  counter('messages_in', 'Messages published by clients.', () => metrics.messagesIn);
  counter('messages_out', 'Messages delivered; one for each receiver.', () => metrics.messagesOut);
  counter('bytes_in', 'Bytes read from clients.', () => metrics.bytesIn);
  counter('bytes_out', 'Bytes handed to clients’ sockets.', () => metrics.bytesOut);
  counter('no_responders', 'Requests that nobody heard.', () => metrics.noResponders);
  counter('slow_consumers', 'Clients cut for not reading.', () => metrics.slowConsumers);
  counter('violations', 'Operations that were not permitted.', () => metrics.violations);
  counter('throttled', 'Times a client was read more slowly.', () => metrics.throttled);
  counter(
    'throttled_seconds',
    'For how long clients were read more slowly.',
    () => metrics.throttledMs / 1_000,
  );
}

function connections(registry: Registry, broker: Broker): void {
  const { metrics } = broker;
  new Counter({
    name: 'conat_connections_opened_total',
    help: 'Connections accepted, by transport.',
    labelNames: ['transport'],
    registers: [registry],
    collect() {
      this.reset();
      for (const [transport, count] of Object.entries(metrics.connectionsOpened)) {
        this.inc({ transport }, count);
      }
    },
  });
  new Counter({
    name: 'conat_connections_closed_total',
    help: 'Connections closed, by reason.',
    labelNames: ['reason'],
    registers: [registry],
    collect() {
      this.reset();
      for (const [reason, count] of Object.entries(metrics.closed)) this.inc({ reason }, count);
    },
  });
}

function gauges(registry: Registry, broker: Broker): void {
  new Gauge({
    name: 'conat_connections',
    help: 'Connections now, by transport.',
    labelNames: ['transport'],
    registers: [registry],
    collect() {
      for (const [transport, count] of Object.entries(broker.connectionsByTransport())) {
        this.set({ transport }, count);
      }
    },
  });
  const gauge = (name: string, help: string, value: () => number): void => {
    new Gauge({
      name: `conat_${name}`,
      help,
      registers: [registry],
      collect() {
        this.set(value());
      },
    });
  };
  gauge('subscriptions', 'Subscriptions now.', () => broker.subscriptionCount);
  gauge('identities', 'Identities that are connected now.', () => broker.identityNames().length);
  gauge(
    'kept_bytes',
    'Bytes that wait in the broker for clients or for the rest of a message.',
    () => broker.keptBytes(),
  );
}

/** Round trips are rare (a PING every half a minute), so they are observed one by one. */
function roundTrips(registry: Registry, { metrics }: Broker): void {
  const histogram = new Histogram({
    name: 'conat_ping_seconds',
    help: 'Round trips of the broker’s PINGs, since the metrics were first asked for.',
    buckets: [0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1],
    registers: [registry],
  });
  metrics.onRoundTrip = (ms) => histogram.observe(ms / 1_000);
}

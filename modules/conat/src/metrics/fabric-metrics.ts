import { Counter, Gauge, type Registry } from 'prom-client';
import type { Fabric, FabricStatus } from '../fabric/fabric.js';

/** Adds what joins this broker with others; nothing for one that is by itself. */
export function fabricMetrics(registry: Registry, fabric: Fabric): void {
  if (!fabric.status) return;
  const gauge = (name: string, help: string, value: (status: FabricStatus) => number): void => {
    new Gauge({
      name: `conat_fabric_${name}`,
      help,
      registers: [registry],
      collect() {
        this.set(value(fabric.status!));
      },
    });
  };
  const counter = (name: string, help: string, value: (status: FabricStatus) => number): void => {
    new Counter({
      name: `conat_fabric_${name}_total`,
      help,
      registers: [registry],
      collect() {
        this.reset();
        this.inc(value(fabric.status!));
      },
    });
  };
  gauge('connected', '1 while the shared link is up.', ({ connected }) => (connected ? 1 : 0));
  gauge('links', 'Links to the cluster that are up.', ({ links }) => links);
  gauge('subscriptions', 'Subscriptions in the cluster.', ({ subscriptions }) => subscriptions);
  gauge('buffered_bytes', 'Bytes that wait for the cluster.', (status) => status.bufferedBytes);
  counter('reconnects', 'Nodes of the cluster that were lost.', ({ reconnects }) => reconnects);
  counter(
    'dropped',
    'Publications given up while the cluster was away.',
    (status) => status.dropped,
  );
  counter(
    'held',
    'Times a client was not read because the cluster took too little.',
    ({ held }) => held,
  );
  counter('errors', 'Errors that the cluster told.', ({ errors }) => errors);
}

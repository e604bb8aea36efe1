import { nuid, type Msg } from '@nats-io/nats-core';
import type { ServiceContract } from './contract/service.js';
import type { ConatClient } from '@rookery/conat';
import { encodeJson } from './wire.js';

/** What one method has done since its service started; times are nanoseconds, as NATS has them. */
interface EndpointStats {
  requests: number;
  errors: number;
  lastError: string;
  processingNs: number;
}

const verbs = ['PING', 'INFO', 'STATS'] as const;
const types = {
  PING: 'io.nats.micro.v1.ping_response',
  INFO: 'io.nats.micro.v1.info_response',
  STATS: 'io.nats.micro.v1.stats_response',
} as const;

/** A served contract as NATS tools see it (`nats micro ls`). */
export class ListedService {
  readonly id = nuid.next();
  /** `host.{hostId}.projects` → `host-projects`. */
  readonly name: string;
  private readonly startedMs = Date.now();
  private readonly stats = new Map<string, EndpointStats>();

  constructor(
    private readonly contract: ServiceContract,
    private readonly prefix: string,
    private readonly queue: string,
  ) {
    this.name = contract.prefix
      .replace(/\.?\{\w+\}\.?/g, '.')
      .replace(/\.+/g, '-')
      .replace(/^-|-$/g, '');
    for (const method of Object.keys(contract.methods)) {
      this.stats.set(method, { requests: 0, errors: 0, lastError: '', processingNs: 0 });
    }
  }

  count(method: string, tookMs: number, error?: Error): void {
    const stats = this.stats.get(method);
    if (!stats) return;
    stats.requests += 1;
    stats.processingNs += Math.round(tookMs * 1e6);
    if (!error) return;
    stats.errors += 1;
    stats.lastError = error.message;
  }

  answer(verb: (typeof verbs)[number]): Record<string, unknown> {
    const { name, id, contract } = this;
    const version = `${contract.version}.0.0`;
    const common = { type: types[verb], name, id, version, metadata: {} };
    if (verb === 'PING') return common;
    if (verb === 'INFO') return { ...common, description: '', endpoints: this.endpoints() };
    return {
      ...common,
      started: new Date(this.startedMs).toISOString(),
      endpoints: this.endpoints().map((endpoint) => ({
        ...endpoint,
        ...this.shown(endpoint.name),
      })),
    };
  }

  private endpoints(): { name: string; subject: string; queue_group: string; metadata: object }[] {
    return Object.entries(this.contract.methods).map(([name, { kind }]) => ({
      name,
      subject: `${this.prefix}.${name}`,
      queue_group: this.queue,
      metadata: { kind },
    }));
  }

  private shown(method: string): Record<string, unknown> {
    const { requests, errors, lastError, processingNs } = this.stats.get(method)!;
    return {
      num_requests: requests,
      num_errors: errors,
      last_error: lastError,
      processing_time: processingNs,
      average_processing_time: requests === 0 ? 0 : Math.round(processingNs / requests),
    };
  }
}

/**
 * Answers `$SRV.PING|INFO|STATS[.<name>[.<id>]]` for all services of one client. Where the broker
 * does not let us listen to that, the services work all the same, unlisted.
 */
class ServiceDirectory {
  readonly services = new Set<ListedService>();

  constructor(client: ConatClient) {
    for (const subject of ['$SRV.*', '$SRV.*.*', '$SRV.*.*.*']) {
      client.nats.subscribe(subject, {
        callback: (error, message) => {
          if (!error) this.answer(message);
        },
      });
    }
  }

  private answer(message: Msg): void {
    const [, verb, name, id] = message.subject.split('.');
    const known = verbs.find((one) => one === verb);
    if (!known || !message.reply) return;
    for (const service of this.services) {
      if (name !== undefined && name !== service.name) continue;
      if (id !== undefined && id !== service.id) continue;
      message.respond(encodeJson(service.answer(known)));
    }
  }
}

const directories = new WeakMap<ConatClient, ServiceDirectory>();

/** @returns a function that takes it off the list */
export function listService(client: ConatClient, service: ListedService): () => void {
  let directory = directories.get(client);
  if (!directory) directories.set(client, (directory = new ServiceDirectory(client)));
  directory.services.add(service);
  return () => directory.services.delete(service);
}

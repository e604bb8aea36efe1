import { headers, wsconnect, type NatsConnection } from '@nats-io/nats-core';
import { jetstreamManager } from '@nats-io/jetstream';
import type { openTestStore } from '@rookery/jetstream/testing';

type AccountStore = ReturnType<typeof openTestStore>;

const streamName = 'orders';
const inFlightMax = 48;
const answerTimeoutMs = 20_000;

/** One publisher's numbered messages, and which of them were acknowledged under which sequence. */
interface Publisher {
  readonly name: string;
  next: number;
  /** In the order of their numbers: said, not acknowledged. */
  readonly open: Set<number>;
}

interface PubAck {
  readonly seq?: number;
  readonly error?: { readonly description: string };
}

/**
 * Several clients that publish as fast as they can, each message with an id of its own. What was
 * not acknowledged when the connection broke is said again on the next one, before anything new.
 */
export class Publishers {
  /** Sequence to id, of all that was acknowledged. */
  readonly acknowledged = new Map<number, string>();
  /** Publications that were refused, by what was said. */
  readonly refusals: string[] = [];
  private readonly publishers: readonly Publisher[];

  constructor(
    count: number,
    private readonly payloadBytes = 200,
  ) {
    this.publishers = Array.from({ length: count }, (_, i) => ({
      name: `p${i}`,
      next: 0,
      open: new Set<number>(),
    }));
  }

  /** Publishes over this URL until the connection breaks or `until` says that it is enough. */
  async run(url: string, until: () => boolean): Promise<void> {
    await Promise.all(this.publishers.map((publisher) => this.publish(publisher, url, until)));
  }

  private async publish(publisher: Publisher, url: string, until: () => boolean): Promise<void> {
    const client = await wsconnect({ servers: url, reconnect: false }).catch(() => null);
    if (!client) return;
    let broken = false;
    void client.closed().then(() => (broken = true));
    const running = new Set<Promise<void>>();
    const say = (number: number): void => {
      const said = this.sayOne(client, publisher, number)
        .catch(() => {
          broken = true;
        })
        .finally(() => running.delete(said));
      running.add(said);
    };
    for (const number of [...publisher.open].sort((a, b) => a - b)) say(number);
    while (!broken && !until()) {
      if (running.size < inFlightMax) {
        publisher.open.add(publisher.next);
        say(publisher.next);
        publisher.next += 1;
      } else await Promise.race(running);
    }
    await Promise.all(running);
    await client.close();
  }

  private async sayOne(
    client: NatsConnection,
    publisher: Publisher,
    number: number,
  ): Promise<void> {
    const id = `${publisher.name}-${number}`;
    const header = headers();
    header.set('Nats-Msg-Id', id);
    const payload = id.padEnd(this.payloadBytes, '.');
    const reply = await client.request(`orders.${publisher.name}`, payload, {
      headers: header,
      timeout: answerTimeoutMs,
    });
    const ack = reply.json<PubAck>();
    publisher.open.delete(number);
    if (ack.seq) this.acknowledged.set(ack.seq, id);
    else this.refusals.push(ack.error?.description ?? '');
  }
}

export async function makeStream(url: string): Promise<void> {
  const client = await wsconnect({ servers: url });
  const manager = await jetstreamManager(client);
  await manager.streams.add({ name: streamName, subjects: ['orders.>'] });
  await client.close();
}

/**
 * What is wrong with a store, given what was acknowledged before it was cut off: lost, altered,
 * stored twice, or out of order. Nothing, one hopes.
 */
export function faultsOf(
  store: AccountStore,
  acknowledged: ReadonlyMap<number, string>,
): { readonly faults: string[]; readonly stored: number } {
  const faults: string[] = [];
  const found = new Map<number, string>();
  const seen = new Set<string>();
  const lastOf = new Map<string, number>();
  for (const message of store.stream(streamName)?.read(1, null) ?? []) {
    const id = message.payload.toString('latin1').replace(/\.+$/, '');
    found.set(message.seq, id);
    if (seen.has(id)) faults.push(`${id} is there twice`);
    seen.add(id);
    const [publisher, number] = id.split('-') as [string, string];
    if (Number(number) <= (lastOf.get(publisher) ?? -1)) faults.push(`${id} is out of order`);
    lastOf.set(publisher, Number(number));
  }
  for (const [seq, id] of acknowledged) {
    if (found.get(seq) !== id) faults.push(`${id} is not at ${seq}: ${found.get(seq)}`);
  }
  return { faults: faults.slice(0, 10), stored: found.size };
}

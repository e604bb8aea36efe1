import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { jetstream, jetstreamManager } from '@nats-io/jetstream';
import type { ConatClient } from '@rookery/conat';
import { natsServerMissing } from '@rookery/conat/testing';
import { SystemClock, waitFor } from '@rookery/core';
import { HubProcess } from './fabric/hub-process.js';
import { TestHub } from './fabric/test-hub.js';
import { NatsCluster } from './fabric/nats-cluster.js';
import { Random } from '@rookery/core/testing';

const missing = await natsServerMissing();
const tests = missing === undefined ? describe : describe.skip;

const { seed } = Random.seeded();
const timeoutMs = 60_000;
const clock = new SystemClock();

tests(`a pool under load${missing ? ` — ${missing}` : ''}`, () => {
  let cluster: NatsCluster;
  let hubs: TestHub[];
  let doomed: HubProcess;

  beforeAll(async () => {
    cluster = await NatsCluster.start();
    hubs = await Promise.all(
      ['hub0', 'hub1'].map((name) => TestHub.start(cluster.servers, { name })),
    );
    doomed = await HubProcess.start('hub2', cluster.servers);
  }, 90_000);

  afterAll(async () => {
    await doomed?.kill();
    for (const hub of hubs ?? []) await hub.close();
    await cluster?.close();
  }, 60_000);

  it(`loses a process and a node: nothing comes twice, nothing acknowledged is lost (seed ${seed})`, async () => {
    const random = new Random(seed);
    const clients = await Promise.all(hubs.map((hub) => hub.connect()));
    // Goes to the first when its own is gone.
    const wanderer = await hubs[0]!.connect({ servers: [doomed.url, hubs[0]!.server.url] });
    const members = [...clients, wanderer].map((client) => listen(client));
    const manager = await jetstreamManager(clients[0]!.nats);
    await manager.streams.add({ name: 'KEPT', subjects: ['kept.>'], num_replicas: 3 });
    const load = new Load(clients, random);
    const running = load.run();
    try {
      await load.until('all hear', () => members.every((heard) => heard.length > 200));
      await load.until('much is stored', () => load.stored.length > 50);
      await doomed.kill();
      const before = members[2]!.length;
      await load.until('the wanderer hears again', () => members[2]!.length > before + 50);
      const node = await cluster.nodeOf('hub0');
      const storedBefore = load.stored.length;
      const heardBefore = members.map((heard) => heard.length);
      await node!.crash();
      await load.until('it found another node', () => {
        const { connected, reconnects } = hubs[0]!.status;
        return connected && reconnects > 0;
      });
      await load.until('all hear again', () =>
        members.every((heard, n) => heard.length > heardBefore[n]! + 50),
      );
      await load.until('it stores again', () => load.stored.length > storedBefore + 50);
    } finally {
      load.stop();
      await running;
    }
    // All is calm: now nothing may be missing either.
    const first = load.published;
    for (let n = 0; n < 300; n += 1) load.publish(n % 2);
    const late = () => members.flat().filter((id) => id >= first);
    await load.until('the last have come', () => late().length >= 300);
    const ids = members.flat();
    expect(ids.length).toBe(new Set(ids).size);
    const { state } = await manager.streams.info('KEPT', { subjects_filter: '>' });
    const subjects = Object.entries(state.subjects ?? {});
    expect(subjects.filter(([, count]) => count !== 1)).toEqual([]);
    const stored = new Set(subjects.map(([subject]) => subject));
    expect(load.stored.filter((subject) => !stored.has(subject))).toEqual([]);
  }, 180_000);
});

/** The numbers that a member of the queue group hears. */
function listen(client: ConatClient): number[] {
  const heard: number[] = [];
  client.nats.subscribe('work', {
    queue: 'workers',
    callback: (_, message) => void heard.push(Number(message.string())),
  });
  return heard;
}

/** Publishes numbers to a queue group, and stores, again and again until it is acknowledged. */
class Load {
  /** How many were published; each has a number of its own. */
  published = 0;
  /** Acknowledged. */
  readonly stored: string[] = [];
  private stopped = false;

  constructor(
    private readonly clients: readonly ConatClient[],
    private readonly random: Random,
  ) {}

  publish(client: number): void {
    this.clients[client]!.nats.publish('work', String(this.published));
    this.published += 1;
  }

  async run(): Promise<void> {
    await Promise.all([this.talk(), ...this.clients.map((client, n) => this.store(client, n))]);
  }

  stop(): void {
    this.stopped = true;
  }

  until(what: string, probe: () => boolean): Promise<true> {
    return waitFor(what, () => probe() || false, { timeoutMs, everyMs: 20 });
  }

  private async talk(): Promise<void> {
    while (!this.stopped) {
      for (let n = this.random.below(20); n >= 0; n -= 1) this.publish(this.random.below(2));
      await clock.delay(5);
    }
  }

  private async store(client: ConatClient, n: number): Promise<void> {
    const js = jetstream(client.nats, { timeout: 1_000 });
    for (let count = 0; !this.stopped; count += 1) {
      const subject = `kept.${n}.${count}`;
      while (!this.stopped) {
        try {
          await js.publish(subject, '', { msgID: subject });
          this.stored.push(subject);
          break;
        } catch {
          await clock.delay(20);
        }
      }
    }
  }
}

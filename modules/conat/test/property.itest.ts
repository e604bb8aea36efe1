import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { NatsFabric } from '@rookery/conat';
import { waitFor } from '@rookery/core';
import {
  NatsServerOracle,
  natsServerMissing,
  startTestBroker,
  type TestBroker,
} from '@rookery/conat/testing';
import { clientOptions, Operations, type Step } from './property/operations.js';
import { Random } from '@rookery/core/testing';
import { RawSocket, type Heard } from './property/raw-socket.js';

const long = process.env.ROOKERY_TEST_LONG === '1';
const budgetMs = long ? 180_000 : 12_000;
/** The same through a fabric. */
const fabricBudgetMs = long ? 60_000 : 4_000;
const { seed } = Random.seeded();
/** How much is shown of what led to a difference. */
const historyMax = 25;

/** nats-server says it again when it reads the message in two parts. */
const complaintOfSubject = 'Invalid Publish Subject';

const missing = await natsServerMissing();
const describeIf = missing === undefined ? describe : describe.skip;

/** The same clients on one server. */
class Side {
  readonly clients: RawSocket[] = [];
  private lastGone = 0;

  constructor(
    readonly url: string,
    /** Whether the server still has a subscription to a subject. */
    private readonly knows: (subject: string) => Promise<boolean> | boolean,
  ) {}

  async connect(): Promise<void> {
    for (const options of clientOptions) {
      this.clients.push(await RawSocket.connect(this.url, options));
    }
  }

  /** Does a step, then waits until everybody has heard everything. */
  async perform(step: Step): Promise<void> {
    const client = this.clients[step.client]!;
    if (step.action === 'reconnect') await this.reconnect(step.client);
    else {
      client.say(step.bytes, step.cuts);
      await client.flush();
    }
    await Promise.all(this.clients.map((each) => each.flush()));
  }

  /** A server learns of a lost client in its own time: asks until it has. */
  private async reconnect(index: number): Promise<void> {
    const subject = `gone.${(this.lastGone += 1)}`;
    const lost = this.clients[index]!;
    lost.say(`SUB ${subject} gone\r\n`);
    await lost.flush();
    await lost.close();
    await waitFor(
      'the server has forgotten a lost client',
      async () => !(await this.knows(subject)),
      { timeoutMs: 20_000, everyMs: 2 },
    );
    this.clients[index] = await RawSocket.connect(this.url, clientOptions[index]!);
  }

  /**
   * What was heard, in an order of its own. A queue's message counts for the group: to whom it
   * went is the server's choice (and with that, whether a client without headers got it). So is
   * in which of its subscriptions a client hears that nobody responds.
   */
  heard(queues: ReadonlyMap<string, string>): string[] {
    return this.clients
      .flatMap((client, index) => client.take().map((heard) => describeHeard(heard, index, queues)))
      .sort()
      .filter((line, i, all) => line !== all[i - 1] || !line.includes(complaintOfSubject));
  }

  async close(): Promise<void> {
    await Promise.all(this.clients.map((client) => client.close()));
  }
}

function describeHeard(heard: Heard, client: number, queues: ReadonlyMap<string, string>): string {
  if (heard.kind !== 'message') return `${client} ${JSON.stringify(heard)}`;
  const { sid, headers, ...rest } = heard;
  if (headers.startsWith('NATS/1.0 503'))
    return `${client} ${JSON.stringify({ ...rest, headers })}`;
  const queue = queues.get(`${client}/${sid}`);
  return queue === undefined
    ? `${client}/${sid} ${JSON.stringify({ ...rest, headers })}`
    : `${queue} ${JSON.stringify(rest)}`;
}

async function knownToNatsServer(server: NatsServerOracle, subject: string): Promise<boolean> {
  const response = await fetch(`${server.monitoringUrl}/subsz?subs=1&test=${subject}`);
  const { subscriptions_list: list = [] } = (await response.json()) as {
    subscriptions_list?: { subject: string }[];
  };
  return list.some((subscription) => subscription.subject === subject);
}

/** Random steps on both until the time is over; fails at the first difference. */
async function inStep(network: TestBroker, server: NatsServerOracle, forMs: number): Promise<void> {
  const operations = new Operations(new Random(seed));
  const sides = [
    new Side(network.url, () => network.broker.connectionCount === clientOptions.length),
    new Side(server.url, (subject) => knownToNatsServer(server, subject)),
  ];
  await Promise.all(sides.map((side) => side.connect()));
  const history: string[] = [];
  const deadline = Date.now() + forMs;
  let steps = 0;
  let deliveries = 0;
  for (; Date.now() < deadline; steps += 1) {
    const step = operations.next();
    history.push(`${step.client} ${step.action} ${JSON.stringify(step.bytes)}`);
    if (history.length > historyMax) history.shift();
    await Promise.all(sides.map((side) => side.perform(step)));
    const [ours, theirs] = sides.map((side) => side.heard(operations.queues));
    deliveries += theirs!.length;
    if (JSON.stringify(ours) === JSON.stringify(theirs)) continue;
    const lately = history.join('\n');
    const difference = `seed ${seed}, ${steps} steps, lately:\n${lately}`;
    throw new Error(
      `${difference}\n\nconat:\n${ours!.join('\n')}\n\nnats-server:\n${theirs!.join('\n')}`,
    );
  }
  await Promise.all(sides.map((side) => side.close()));
  // A run in which nothing was heard would prove nothing.
  expect(deliveries).toBeGreaterThan(steps / 4);
}

describeIf(`conat and nats-server in step${missing ? ` — ${missing}` : ''}`, () => {
  let network: TestBroker;
  let server: NatsServerOracle;

  beforeAll(async () => {
    network = await startTestBroker();
    server = await NatsServerOracle.start({ jetStream: false });
  });
  afterAll(async () => {
    await server?.close();
    await network?.close();
  });

  it(
    `delivers the same (ROOKERY_TEST_SEED=${seed})`,
    () => inStep(network, server, budgetMs),
    budgetMs + 60_000,
  );

  it(
    `delivers the same through a fabric (ROOKERY_TEST_SEED=${seed})`,
    async () => {
      const node = await NatsServerOracle.start({ jetStream: false });
      const fabric = new NatsFabric([node.tcpUrl]);
      const joined = await startTestBroker({ fabric });
      try {
        await inStep(joined, server, fabricBudgetMs);
        expect(fabric.status).toMatchObject({ reconnects: 0, dropped: 0 });
      } finally {
        await joined.close();
        await node.close();
      }
    },
    fabricBudgetMs + 60_000,
  );
});

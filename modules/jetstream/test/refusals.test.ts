import { mkdtempSync, rmSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from '@jest/globals';
import { headers, wsconnect, type NatsConnection } from '@nats-io/nats-core';
import { rootAccount } from '@rookery/jetstream';
import { startTestJetStream, type TestJetStream } from '@rookery/jetstream/testing';

const guidePath = join(import.meta.dirname, '..', '..', '..', 'docs', 'conat.md');
const marks = [
  '<!-- refusals: modules/jetstream/test/refusals.test.ts -->\n\n',
  '\n<!-- end of refusals -->',
];

/** One way to ask for something that there is not. */
interface Probe {
  readonly asked: string;
  readonly subject: string;
  readonly body?: unknown;
  readonly header?: Readonly<Record<string, string>>;
}

const streamOf = (asked: string, config: object): Probe => ({
  asked: `stream with ${asked}`,
  subject: '$JS.API.STREAM.CREATE.X',
  body: { name: 'X', subjects: ['x'], ...config },
});
const consumerOf = (asked: string, config: object): Probe => ({
  asked: `consumer with ${asked}`,
  subject: '$JS.API.CONSUMER.CREATE.S.X',
  body: { stream_name: 'S', config: { name: 'X', ack_policy: 'explicit', ...config } },
});
const publication = (header: string, value: string): Probe => ({
  asked: `publication with \`${header}\``,
  subject: 's.x',
  header: { [header]: value },
});
const request = (asked: string, subject: string, body?: unknown): Probe => ({
  asked: `${asked} (\`${subject.replace(/\.[SC]\b/g, '.*')}\`)`,
  subject: `$JS.API.${subject}`,
  ...(body === undefined ? {} : { body }),
});

const probes: readonly Probe[] = [
  streamOf('`mirror`', { subjects: undefined, mirror: { name: 'S' } }),
  streamOf('`sources`', { sources: [{ name: 'S' }] }),
  streamOf('`republish`', { republish: { src: 'x', dest: 'y' } }),
  streamOf('`subject_transform`', { subject_transform: { src: 'x', dest: 'y' } }),
  streamOf('`allow_msg_counter`', { allow_msg_counter: true }),
  streamOf('`allow_atomic`', { allow_atomic: true }),
  streamOf('`allow_batched`', { allow_batched: true }),
  streamOf('`allow_msg_schedules`', { allow_msg_schedules: true }),
  streamOf('`persist_mode: async`', { persist_mode: 'async' }),
  streamOf('`num_replicas` above 1', { num_replicas: 3 }),
  publication('Nats-Incr', '+1'),
  publication('Nats-Batch-Id', 'b'),
  publication('Nats-Schedule', '@every 1h'),
  publication('Nats-Stream-Source', 'x'),
  consumerOf('`priority_policy: overflow`', {
    priority_groups: ['g'],
    priority_policy: 'overflow',
  }),
  consumerOf('`priority_policy: pinned_client`', {
    priority_groups: ['g'],
    priority_policy: 'pinned_client',
  }),
  consumerOf('`priority_policy: prioritized`', {
    priority_groups: ['g'],
    priority_policy: 'prioritized',
  }),
  consumerOf('`ack_policy: flow_control`', { ack_policy: 'flow_control' }),
  consumerOf('`num_replicas` above 1', { num_replicas: 3 }),
  request('unpin a client', 'CONSUMER.UNPIN.S.C', { group: 'g' }),
  request('reset a consumer', 'CONSUMER.RESET.S.C', { seq: 1 }),
  request('snapshot a stream', 'STREAM.SNAPSHOT.S', { deliver_subject: 'y' }),
  request('restore a stream', 'STREAM.RESTORE.Y', {
    config: { name: 'Y', subjects: ['y'] },
    state: {},
  }),
  request('remove a stream’s peer', 'STREAM.PEER.REMOVE.S', { peer: 'p' }),
  request('remove a consumer’s peer', 'CONSUMER.PEER.REMOVE.S.C', { peer: 'p' }),
  request('evacuate a stream’s peer', 'STREAM.PEER.EVACUATE.S', { peer: 'p' }),
  request('evacuate a consumer’s peer', 'CONSUMER.PEER.EVACUATE.S.C', { peer: 'p' }),
  request('another leader of a stream', 'STREAM.LEADER.STEPDOWN.S'),
  request('another leader of a consumer', 'CONSUMER.LEADER.STEPDOWN.S.C'),
  request('cancel a stream’s move', 'STREAM.CANCEL_MOVE.S'),
  request('what concerns the cluster', 'META.LEADER.STEPDOWN'),
  request('take a server away', 'SERVER.REMOVE', { peer: 'p' }),
  request('purge an account', 'ACCOUNT.PURGE.A'),
  request('move an account’s stream', 'ACCOUNT.STREAM.MOVE.A.S', {}),
  request('a request that nobody knows', 'WHATEVER'),
];

let folder: string;
let broker: TestJetStream;
let client: NatsConnection;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'rookery-refusals-'));
  const accounts = [rootAccount('root', join(folder, 'conat.sqlite'))];
  broker = await startTestJetStream({ jetStream: { accounts, options: { threads: 0 } } });
  client = await wsconnect({ servers: broker.url });
  await ask({
    asked: '',
    subject: '$JS.API.STREAM.CREATE.S',
    body: { name: 'S', subjects: ['s.>'] },
  });
  await ask(consumerOf('', { name: 'C' }), '$JS.API.CONSUMER.CREATE.S.C');
});
afterAll(async () => {
  await client?.close();
  await broker?.close();
  rmSync(folder, { recursive: true, force: true });
});

interface Answer {
  readonly error?: {
    readonly code: number;
    readonly err_code: number;
    readonly description: string;
  };
}

async function ask({ subject, body, header }: Probe, at = subject): Promise<Answer> {
  const block = headers();
  for (const [key, value] of Object.entries(header ?? {})) block.append(key, value);
  const payload = body === undefined ? '' : JSON.stringify(body);
  const message = await client.request(at, payload, { timeout: 5_000, headers: block });
  return message.json<Answer>();
}

/** The table as the broker answers now. */
async function table(): Promise<string> {
  const rows = [['Asked for', 'Status', 'Code', 'Answer']];
  for (const probe of probes) {
    const { error } = await ask(probe);
    if (!error) throw new Error(`${probe.asked} is not refused: take it from the table`);
    rows.push([
      probe.asked,
      `${error.code}`,
      `${error.err_code}`,
      `\`${error.description.replaceAll('|', '\\|')}\``,
    ]);
  }
  const widths = rows[0]!.map((_, at) => Math.max(...rows.map((row) => row[at]!.length)));
  const line = (cells: readonly string[]): string =>
    `| ${cells.map((cell, at) => cell.padEnd(widths[at]!)).join(' | ')} |`;
  const rule = `| ${widths.map((width) => '-'.repeat(width)).join(' | ')} |`;
  return [line(rows[0]!), rule, ...rows.slice(1).map(line)].join('\n');
}

// ROOKERY_WRITE_DOCS=1 writes the table anew.
it('are in the guide, each with the code that the broker answers', async () => {
  const guide = await readFile(guidePath, 'utf8');
  const [before, rest] = guide.split(marks[0]!);
  const [told, after] = (rest ?? '').split(marks[1]!);
  const now = await table();
  if (process.env.ROOKERY_WRITE_DOCS === '1') {
    await writeFile(guidePath, [before, marks[0], now, '\n', marks[1], after].join(''));
    return;
  }
  expect(told?.trim()).toBe(now);
});

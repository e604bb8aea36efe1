import { access, mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { natsServerMissing } from '@rookery/conat/testing';
import { Reverter, SystemExec } from '@rookery/core';
import { rowOf, type BenchRow, type Measured } from '../report.js';
import type { Load, LoadResult } from './plan.js';
import {
  cpuUs,
  makeVolume,
  residentBytes,
  startConat,
  startNats,
  type MeasuredServer,
} from './servers.js';

const rounds = 3;
const exec = new SystemExec();
/** Messages go through one core of the server; the clients have the other. */
const oneCore = '1';
const clientCore = '0';
const allCores = '0,1';
const KiB = 1024;

type Pair = readonly [conat: MeasuredServer, nats: MeasuredServer];
type Bounds = { goal: number; floor?: number };
type NewLoad = Load extends infer L ? (L extends Load ? Omit<L, 'url'> : never) : never;

/**
 * conat and nats-server with the same clients over WebSocket, in turn, in one run. Permissions,
 * limits and metrics are on in conat; what is stored is fsynced before the acknowledgement by both.
 */
export async function benchConat(): Promise<BenchRow[]> {
  const missing = await natsServerMissing();
  if (missing !== undefined) throw new Error(missing);
  await using undo = new Reverter();
  const folder = await mkdtemp(join(tmpdir(), 'rookery-conat-'));
  undo.add(() => rm(folder, { recursive: true, force: true }));
  const volume = await makeVolume(folder, undo);
  return [
    ...(await messageRows(volume)),
    ...(await durableRows(volume)),
    ...(await readingRows(volume)),
    ...(await memoryRows(volume)),
  ];
}

async function messageRows(volume: string): Promise<BenchRow[]> {
  await using undo = new Reverter();
  const pair = await startPair(volume, 'messages', oneCore, undo);
  const fan = (subscribers: number, bytes: number, messages: number): NewLoad => ({
    kind: 'fan-out',
    subscribers,
    bytes,
    messages,
    window: bytes > KiB ? 512 : 16_384,
  });
  const cpu: [number[], number[]] = [[], []];
  const rows = [
    await rateRow(
      'fan-out 1→1, 128 B',
      'messages/s',
      pair,
      fan(1, 128, 600_000),
      bound(1, 0.8),
      cpu,
    ),
    await rateRow('fan-out 1→20, 128 B', 'messages/s', pair, fan(20, 128, 60_000), bound(1, 0.8)),
    await rateRow(
      'fan-out 1→1, 16 KiB',
      'messages/s',
      pair,
      fan(1, 16 * KiB, 40_000),
      bound(1, 0.8),
    ),
  ];
  rows.push(await goRow(pair));
  rows.push(lessRow('broker CPU a message, 1→1 128 B', 'µs', cpu[0], cpu[1], bound(1)));
  const asked = await inTurn(pair, { kind: 'requests', warmUp: 5_000, count: 10_000 });
  const of = (at: 0 | 1, key: 'p50Us' | 'p99Us'): number[] => asked[at].map((one) => one[key]!);
  rows.push(lessRow('request p50', 'µs', of(0, 'p50Us'), of(1, 'p50Us'), bound(1, 1 / 1.2)));
  rows.push(lessRow('request p99', 'µs', of(0, 'p99Us'), of(1, 'p99Us'), bound(1, 1 / 1.2)));
  return rows;
}

async function durableRows(volume: string): Promise<BenchRow[]> {
  await using undo = new Reverter();
  const pair = await startPair(volume, 'durable', allCores, undo);
  const load = (inFlight: number): NewLoad => ({
    kind: 'durable',
    bytes: 128,
    inFlight,
    durationMs: 4_000,
  });
  const rows = [
    await rateRow('durable publish, one at a time', 'messages/s', pair, load(1), bound(1, 0.9)),
    await rateRow('durable publish, 256 in flight', 'messages/s', pair, load(256), bound(15, 5)),
  ];
  const beside: [number[], number[]] = [[], []];
  for (let n = 0; n < rounds; n += 1) {
    for (const at of [0, 1] as const) {
      const publishing = run(pair[at], {
        kind: 'durable',
        bytes: 128,
        inFlight: 256,
        durationMs: 4_000,
      });
      const asking = await run(pair[at], { kind: 'requests', warmUp: 1_000, count: 3_000 });
      await publishing;
      beside[at].push(asking.p50Us!);
    }
  }
  rows.push(lessRow('request p50 beside durable publishing', 'µs', beside[0], beside[1], bound(1)));
  return rows;
}

async function readingRows(volume: string): Promise<BenchRow[]> {
  await using undo = new Reverter();
  const messages = 1_000_000;
  const keys = 100_000;
  const fill: NewLoad = { kind: 'fill', bytes: 128, messages, keys };
  process.stderr.write('  storing a million messages and 100,000 keys in each\n');
  // nats-server would take minutes with an fsync a message; it reads the same afterwards.
  const store = await newFolder(volume, 'reading');
  const filled = await startNats({ store: store.nats, cores: allCores, durable: false }, undo);
  await run(filled, fill);
  await filled.stop();
  const nats = await startNats({ store: store.nats, cores: allCores, durable: true }, undo);
  const conat = await startConat({ store: store.conat, cores: allCores, durable: true }, undo);
  await run(conat, fill);
  const pair: Pair = [conat, nats];
  const consume = await rateRow(
    'consume 1 M stored messages, 128 B',
    'messages/s',
    pair,
    { kind: 'consume', messages },
    bound(1, 0.6),
  );
  const watched = await inTurn(pair, { kind: 'watch-keys', keys });
  const of = (at: 0 | 1): number[] => watched[at].map(({ tookMs }) => tookMs!);
  const row = 'KV watch of 100,000 keys: first full state';
  return [consume, lessRow(row, 'ms', of(0), of(1), bound(1, 1 / 1.5))];
}

async function memoryRows(volume: string): Promise<BenchRow[]> {
  await using undo = new Reverter();
  const pair = await startPair(volume, 'memory', allCores, undo);
  const connections = 5_000;
  const bytes: number[] = [];
  for (const server of pair) {
    const before = await residentBytes(server.pid);
    const child = exec.spawn(loadCommand(server, { kind: 'idle', connections }));
    await new Promise((resolve, reject) => {
      child.stdout.once('data', resolve);
      void child.ended.then(({ stderr }) => reject(new Error(stderr)));
    });
    bytes.push((await residentBytes(server.pid)) - before);
    child.stdin.end();
    await child.ended;
  }
  const perConnection = bytes.map((all) => all / connections / KiB);
  return [
    rowOf({
      row: 'memory of an idle connection (5,000)',
      unit: 'KiB',
      lessIsBetter: true,
      ours: [perConnection[0]!],
      peer: { name: 'nats-server', values: [perConnection[1]!] },
    }),
    rowOf({
      row: 'memory of an idle project store (1,000)',
      unit: 'KiB',
      lessIsBetter: true,
      ours: [(await idleStoreBytes(volume)) / KiB],
    }),
  ];
}

/** What a project's store takes while it is closed, its streams known. */
async function idleStoreBytes(volume: string): Promise<number> {
  const stores = 1_000;
  const folder = join(volume, 'stores');
  await mkdir(folder);
  const script = join(import.meta.dirname, 'idle-stores.js');
  const command = [process.execPath, '--expose-gc', script, folder, String(stores)];
  const { stdout } = await exec.run(command, { timeoutMs: 300_000 });
  return (JSON.parse(stdout) as { bytes: number }).bytes / stores;
}

async function startPair(
  volume: string,
  name: string,
  cores: string,
  undo: Reverter,
): Promise<Pair> {
  const store = await newFolder(volume, name);
  return [
    await startConat({ store: store.conat, cores, durable: true }, undo),
    await startNats({ store: store.nats, cores, durable: true }, undo),
  ];
}

/** Subvolumes of their own, as each project's persistence has one. */
async function newFolder(volume: string, name: string): Promise<{ conat: string; nats: string }> {
  const parent = join(volume, name);
  await mkdir(parent);
  const made = { conat: join(parent, 'conat'), nats: join(parent, 'nats') };
  for (const path of Object.values(made)) {
    await exec.run(['btrfs', '-q', 'subvolume', 'create', path]);
  }
  return made;
}

const bound = (goal: number, floor?: number): Bounds => ({
  goal,
  ...(floor !== undefined && { floor }),
});

async function inTurn(pair: Pair, load: NewLoad): Promise<[LoadResult[], LoadResult[]]> {
  const results: [LoadResult[], LoadResult[]] = [[], []];
  for (let n = 0; n < rounds; n += 1) {
    for (const at of [0, 1] as const) results[at].push(await run(pair[at], load));
  }
  return results;
}

async function rateRow(
  row: string,
  unit: string,
  pair: Pair,
  load: NewLoad,
  bounds: Bounds,
  cpu?: [number[], number[]],
): Promise<BenchRow> {
  const rates: [number[], number[]] = [[], []];
  for (let n = 0; n < rounds; n += 1) {
    for (const at of [0, 1] as const) {
      const before = await cpuUs(pair[at].pid);
      rates[at].push((await run(pair[at], load)).perSecond!);
      const spent = (await cpuUs(pair[at].pid)) - before;
      if (load.kind === 'fan-out') cpu?.[at].push(spent / (load.messages * 1.1));
    }
  }
  process.stderr.write(`  ${row}\n`);
  return rowOf(measured(row, unit, false, rates[0], rates[1], bounds));
}

const lessRow = (
  row: string,
  unit: string,
  ours: number[],
  peer: number[],
  bounds: Bounds,
): BenchRow => {
  process.stderr.write(`  ${row}\n`);
  return rowOf(measured(row, unit, true, ours, peer, bounds));
};

const measured = (
  row: string,
  unit: string,
  lessIsBetter: boolean,
  ours: number[],
  peer: number[],
  { goal, floor }: Bounds,
): Measured => ({
  row,
  unit,
  lessIsBetter,
  ours,
  peer: { name: 'nats-server', values: peer },
  goal: { ratio: goal },
  ...(floor !== undefined && { floor: { ratio: Number(floor.toFixed(2)) } }),
});

const loadCommand = (server: MeasuredServer, load: NewLoad): string[] => [
  'taskset',
  '-c',
  clientCore,
  process.execPath,
  join(import.meta.dirname, 'load.js'),
  JSON.stringify({ ...load, url: server.url }),
];

async function run(server: MeasuredServer, load: NewLoad): Promise<LoadResult> {
  const { stdout } = await exec.run(loadCommand(server, load), { timeoutMs: 600_000 });
  return JSON.parse(stdout) as LoadResult;
}

async function goRow(pair: Pair): Promise<BenchRow> {
  const program = join(process.env.ROOKERY_CACHE ?? '/var/cache/rookery', 'go/bin/conat-load');
  await access(program);
  const rates: [number[], number[]] = [[], []];
  for (let n = 0; n < rounds; n += 1) {
    for (const at of [0, 1] as const) {
      const command = ['taskset', '-c', clientCore, program, pair[at].url];
      const { stdout } = await exec.run([...command, '128', '1000000', '16384']);
      rates[at].push((JSON.parse(stdout) as LoadResult).perSecond!);
    }
  }
  const row = 'fan-out 1→1, 128 B, Go clients';
  return rowOf(measured(row, 'messages/s', false, rates[0], rates[1], bound(1.3, 1)));
}

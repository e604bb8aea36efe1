import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from '@jest/globals';
import { SystemClock, waitFor } from '@rookery/core';
import { openTestStore } from '@rookery/jetstream/testing';
import { CutVolume } from '@rookery/storage/testing';
import { BrokerProcess } from './durability/broker-process.js';
import { faultsOf, makeStream, Publishers } from './durability/publishers.js';
import { Random } from '@rookery/core/testing';

const long = process.env.ROOKERY_TEST_LONG === '1';
const cutsCount = long ? 25 : 3;
const { seed } = Random.seeded();

let volume: CutVolume;
let broker: BrokerProcess | null;

beforeEach(async () => {
  broker = null;
  volume = await CutVolume.make();
});

afterEach(async () => {
  await broker?.kill();
  await volume?.destroy();
});

interface Moment {
  /** A disk or a snapshot. */
  readonly what: string;
  /** What was acknowledged before. */
  readonly acknowledged: ReadonlyMap<number, string>;
}

/** Publishes, and takes moments of the volume meanwhile; ends with the volume unmounted. */
async function takeMoments(
  synchronous: 'full' | 'off',
  random: Random,
): Promise<{ cuts: Moment[]; snapshots: Moment[] }> {
  const dir = await volume.makeSubvolume('store');
  broker = await BrokerProcess.start(dir, synchronous);
  await makeStream(broker.url);
  const publishers = new Publishers(4);
  let enough = false;
  const running = publishers.run(broker.url, () => enough);
  const cuts: Moment[] = [];
  const snapshots: Moment[] = [];
  for (let i = 0; i < cutsCount; i += 1) {
    const count = publishers.acknowledged.size + 100 + random.below(700);
    await waitFor('more is stored', () => publishers.acknowledged.size >= count, {
      timeoutMs: 60_000,
      everyMs: 2,
    });
    // At any moment: not only right behind an acknowledgement.
    await new SystemClock().delay(random.below(30));
    const beforeCut = new Map(publishers.acknowledged);
    cuts.push({ what: await volume.cut(), acknowledged: beforeCut });
    const beforeSnapshot = new Map(publishers.acknowledged);
    const what = await volume.snapshot(`snapshot-${i}`, 'store');
    snapshots.push({ what, acknowledged: beforeSnapshot });
  }
  enough = true;
  await running;
  await broker.kill();
  return { cuts, snapshots };
}

function check(folder: string, moment: Moment): string[] {
  const store = openTestStore(join(folder, 'conat.sqlite'));
  try {
    return faultsOf(store, moment.acknowledged).faults;
  } finally {
    store.close();
  }
}

it(`keeps every acknowledged message when the power goes, or a snapshot is taken (seed ${seed})`, async () => {
  const { cuts, snapshots } = await takeMoments('full', new Random(seed));
  for (const snapshot of snapshots) expect(check(snapshot.what, snapshot)).toEqual([]);
  await volume.unmount();
  for (const cut of cuts) {
    await volume.mount(cut.what);
    expect(check(join(volume.path, 'store'), cut)).toEqual([]);
    await volume.unmount();
  }
});

it('would lose messages without fsync: these cuts are real ones', async () => {
  const { cuts } = await takeMoments('off', new Random(seed));
  await volume.unmount();
  const faults: string[] = [];
  for (const cut of cuts) {
    await volume.mount(cut.what);
    try {
      faults.push(...check(join(volume.path, 'store'), cut));
    } catch (error) {
      // The store's folder or file may not even be there.
      faults.push(String(error));
    }
    await volume.unmount();
  }
  expect(faults.length).toBeGreaterThan(0);
});

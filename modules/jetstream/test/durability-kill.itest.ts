import { cpSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from '@jest/globals';
import { waitFor } from '@rookery/core';
import { openTestStore } from '@rookery/jetstream/testing';
import { BrokerProcess } from './durability/broker-process.js';
import { faultsOf, makeStream, Publishers } from './durability/publishers.js';
import { Random } from '@rookery/core/testing';

const long = process.env.ROOKERY_TEST_LONG === '1';
const rounds = long ? 40 : 4;
const { seed } = Random.seeded();

let folder: string;
let broker: BrokerProcess | null;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'rookery-kill-'));
  broker = null;
});

afterEach(async () => {
  await broker?.kill();
  rmSync(folder, { recursive: true, force: true });
});

it(`keeps every acknowledged message when it is killed, again and again (seed ${seed})`, async () => {
  const random = new Random(seed);
  const dir = join(folder, 'store');
  const publishers = new Publishers(6);
  for (let round = 0; round < rounds; round += 1) {
    broker = await BrokerProcess.start(dir);
    if (round === 0) await makeStream(broker.url);
    const enough = publishers.acknowledged.size + 50 + random.below(700);
    const running = publishers.run(broker.url, () => false);
    await waitFor('enough is stored', () => publishers.acknowledged.size >= enough, {
      timeoutMs: 60_000,
      everyMs: 2,
    });
    await broker.kill();
    await running;
    // A copy: the next broker has to recover by itself.
    const copy = join(folder, `after-${round}`);
    cpSync(dir, copy, { recursive: true });
    const store = openTestStore(join(copy, 'conat.sqlite'));
    const { faults } = faultsOf(store, publishers.acknowledged);
    store.close();
    expect(faults).toEqual([]);
    rmSync(copy, { recursive: true });
  }
});

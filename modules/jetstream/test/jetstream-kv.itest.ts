import { afterAll, beforeAll, describe, test } from '@jest/globals';
import {
  AckPolicy,
  DiscardPolicy,
  jetstream,
  jetstreamManager,
  RetentionPolicy,
  StorageType,
} from '@nats-io/jetstream';
import { Kvm, type KV, type KvEntry } from '@nats-io/kv';
import { waitFor } from '@rookery/core';
import { errorOf, Everywhere, type Program } from './support/everywhere.js';
import { subjectLengths } from '@rookery/conat/testing';

let everywhere: Everywhere;
beforeAll(async () => {
  everywhere = await Everywhere.start();
});
afterAll(() => everywhere?.close());

const sameEverywhere = (program: Program): Promise<void> => everywhere.same(program);

const shown = (entry: KvEntry | null): unknown[] =>
  entry ? [entry.key, entry.operation, entry.revision, entry.string(), entry.delta] : [];

async function all(entries: AsyncIterable<KvEntry>): Promise<unknown[]> {
  const found: unknown[] = [];
  for await (const entry of entries) found.push(shown(entry));
  return found;
}

async function exercise(bucket: KV, said: (what: unknown) => void): Promise<void> {
  said(await bucket.put('a', 'one'));
  said(await bucket.put('a', 'two'));
  said(await bucket.create('b', 'first'));
  said(await errorOf(bucket.create('b', 'again')));
  said(await bucket.update('b', 'second', 3));
  said(await errorOf(bucket.update('b', 'third', 3)));
  said(shown(await bucket.get('a')));
  said(shown(await bucket.get('a', { revision: 1 })));
  said(shown(await bucket.get('none')));
  await bucket.delete('a');
  said(shown(await bucket.get('a')));
  said(await bucket.create('a', 'after a delete'));
  said(await bucket.put('deep.er.key', 'x'));
  await bucket.purge('b');
  said(shown(await bucket.get('b')));
  said(await errorOf(bucket.delete('a', { previousSeq: 1 })));
  said(await all(await bucket.history()));
  const keys: string[] = [];
  for await (const key of await bucket.keys()) keys.push(key);
  said(keys.sort());
  // Not in its interface, but everywhere in its documentation.
  said(await (bucket as KV & { purgeDeletes(ms: number): Promise<unknown> }).purgeDeletes(-1));
  said(await all(await bucket.history({ key: '>' })));
}

describe('KV of @nats-io/kv', () => {
  test('puts, creates, updates, deletes, purges and tells history', async () => {
    await sameEverywhere(async (client, said) => {
      const bucket = await new Kvm(jetstream(client)).create('bucket', { history: 5 });
      await exercise(bucket, said);
      const { bucket: name, history, values, ttl, replicas, storage } = await bucket.status();
      said({ name, history, values, ttl, replicas, storage });
      said(await bucket.destroy());
    });
  });

  test('keeps keys of all lengths apart', async () => {
    await sameEverywhere(async (client, said) => {
      const bucket = await new Kvm(jetstream(client)).create('lengths');
      // What the key is within its subject, here and in a project.
      const keys = subjectLengths
        .filter((bytes) => bytes < 1_900)
        .map((bytes) => 'k'.repeat(bytes));
      for (const [n, key] of keys.entries()) {
        await bucket.put('balance', `before ${n}`);
        await bucket.put(key, `long ${n}`);
        await bucket.put('balance', `behind ${n}`);
        said((await bucket.get('balance'))?.string());
        said((await bucket.get(key))?.string());
      }
      said(await all(await bucket.history()));
      said(await bucket.destroy());
    });
  });

  test('takes letters of all kinds', async () => {
    await sameEverywhere(async (client, said) => {
      const js = jetstream(client);
      const manager = await jetstreamManager(client);
      await manager.streams.add({ name: 'façade', subjects: ['à.größe.>'] });
      said(await js.publish('à.größe.日本', 'ü', { msgID: 'é' }));
      said(await js.publish('à.größe.日本', 'ü', { msgID: 'é' }));
      const filter = { subjects_filter: 'à.>' };
      said((await manager.streams.info('façade', filter)).state.subjects);
      said((await manager.streams.getMessage('façade', { last_by_subj: 'à.*.日本' }))?.subject);
      said(await manager.streams.delete('façade'));
    });
  });

  test('watches with all that it can ask for', async () => {
    await sameEverywhere(async (client, said) => {
      const bucket = await new Kvm(jetstream(client)).create('watched', { history: 30 });
      for (const [key, value] of ['a', 'b', 'a', 'c.d', 'a'].entries()) {
        await bucket.put(value, String(key));
      }
      await bucket.delete('b');
      // Nothing is replaced while it is watched, and each watch has its own end.
      const watches = [
        {},
        { include: 'history' as never },
        { include: 'updates' as never },
        { key: 'c.*' },
        { key: ['a', 'b'] },
        { ignoreDeletes: true },
        { headers_only: true },
        { resumeFromRevision: 3 },
      ];
      for (const [at, options] of watches.entries()) {
        const watch = await bucket.watch(options);
        const seen: unknown[] = [];
        const reading = (async () => {
          for await (const entry of watch) {
            // How many follow depends on how fast the next were put.
            seen.push(shown(entry).slice(0, 4));
            if (entry.key === `end${at}`) break;
          }
        })();
        const latest = await bucket.put('c.d', 'new');
        const isLatest = (entry: unknown): boolean => (entry as unknown[])[2] === latest;
        // Of `a` and `b` there is one each; of `c.*` what was there may be the new one at once.
        const enough = (): boolean =>
          options.key === 'c.*' ? seen.some(isLatest) : seen.length === 2;
        if (!('key' in options)) await bucket.put(`end${at}`, 'x');
        else await waitFor('what is wanted', enough, { timeoutMs: 5_000, everyMs: 5 });
        if ('key' in options) watch.stop();
        await reading;
        said([options, seen]);
      }
      said(await bucket.destroy());
    });
  }, 60_000);

  test('lets values expire, and marks that they did', async () => {
    await sameEverywhere(async (client, said) => {
      const kvm = new Kvm(jetstream(client));
      const aged = await kvm.create('aged', { ttl: 1_000 });
      await aged.put('a', 'x');
      const marked = await kvm.create('marked', { markerTTL: 2_000 });
      said(await marked.create('a', 'x', '1s'));
      await marked.put('b', 'stays');
      const gone = async (bucket: KV): Promise<boolean> =>
        (await bucket.get('a'))?.string() !== 'x';
      await waitFor('it is gone', () => gone(aged), { timeoutMs: 10_000, everyMs: 50 });
      said(shown(await aged.get('a')));
      await waitFor('it is marked', () => gone(marked), { timeoutMs: 10_000, everyMs: 50 });
      said(shown(await marked.get('a')));
      said(shown(await marked.get('b')));
      const status = await marked.status();
      said([status.markerTTL, status.values, (await aged.status()).ttl]);
      await aged.destroy();
      await marked.destroy();
    });
  }, 60_000);
});

describe('streams of @nats-io/jetstream', () => {
  test('are managed, published to and read', async () => {
    await sameEverywhere(async (client, said) => {
      const manager = await jetstreamManager(client);
      const js = jetstream(client);
      const info = await manager.streams.add({
        name: 'S',
        subjects: ['s.>'],
        retention: RetentionPolicy.Limits,
        storage: StorageType.File,
        discard: DiscardPolicy.New,
        max_msgs: 6,
        allow_direct: true,
      });
      said([info.config.max_msgs, info.state.messages]);
      for (let i = 0; i < 6; i += 1)
        said(await js.publish(`s.${i % 2}`, `${i}`, { msgID: `${i}` }));
      said(await js.publish('s.0', 'x', { msgID: '3' }));
      said(await errorOf(js.publish('s.0', 'x')));
      said(await errorOf(js.publish('s.0', 'x', { expect: { lastSequence: 3 } })));
      said(await errorOf(js.publish('nobody', 'x')));
      const stream = await js.streams.get('S');
      said((await stream.getMessage({ last_by_subj: 's.1' }))?.string());
      said((await manager.direct.getMessage('S', { seq: 2 }))?.string());
      said(await errorOf(manager.direct.getMessage('S', { seq: 99 })));
      const batch = await manager.direct.getBatch('S', { seq: 1, batch: 4 });
      for await (const message of batch) said([message.seq, message.string()]);
      said(await manager.streams.deleteMessage('S', 2));
      said((await manager.streams.info('S', { deleted_details: true })).state.deleted);
      said(await manager.streams.purge('S', { filter: 's.1', keep: 1 }));
      const names: string[] = [];
      for await (const name of manager.streams.names()) names.push(name);
      said(names);
      await manager.consumers.add('S', { durable_name: 'c', ack_policy: AckPolicy.Explicit });
      const consumer = await js.consumers.get('S', 'c');
      const messages = await consumer.fetch({ max_messages: 4, expires: 1_000 });
      for await (const message of messages) {
        said([message.seq, message.subject, message.string(), message.redelivered]);
        message.ack();
      }
      said(await manager.streams.delete('S'));
      said(await errorOf(manager.streams.info('S')));
      said((await manager.getAccountInfo()).streams);
    });
  });
});

import { createHash } from 'node:crypto';
import { afterAll, beforeAll, describe, test } from '@jest/globals';
import { jetstream } from '@nats-io/jetstream';
import { Objm, type ObjectInfo } from '@nats-io/obj';
import { errorOf, Everywhere } from './support/everywhere.js';

let everywhere: Everywhere;
beforeAll(async () => {
  everywhere = await Everywhere.start();
});
afterAll(() => everywhere?.close());

const shown = (info: ObjectInfo | null): unknown =>
  info && [info.name, info.size, info.chunks, info.digest, info.deleted];
const digest = (bytes: Uint8Array | null): unknown =>
  bytes && [bytes.length, createHash('sha256').update(bytes).digest('hex')];

describe('objects of @nats-io/obj', () => {
  test('are put in pieces, read, listed, linked, replaced, deleted and sealed', async () => {
    const big = new Uint8Array(1_000_000).map((_, at) => at % 251);
    await everywhere.same(async (client, said) => {
      const store = await new Objm(jetstream(client)).create('files', { description: 'all' });
      said(shown(await store.putBlob({ name: 'big' }, big)));
      said(shown(await store.putBlob({ name: 'small' }, new Uint8Array([1, 2, 3]))));
      said(digest(await store.getBlob('big')));
      said(digest(await store.getBlob('none')));
      said(shown(await store.putBlob({ name: 'small' }, new Uint8Array([4, 5]))));
      said(digest(await store.getBlob('small')));
      said((await store.list()).map(shown));
      await store.link('alias', (await store.info('small'))!);
      said(digest(await store.getBlob('alias')));
      said(await store.delete('big'));
      said(shown(await store.info('big')));
      said(digest(await store.getBlob('big')));
      const { streamInfo, sealed, size } = await store.status();
      said([sealed, size, streamInfo.state.messages, streamInfo.state.bytes > 0]);
      await store.seal();
      said(await errorOf(store.putBlob({ name: 'late' }, new Uint8Array(1))));
      said(await store.destroy());
    });
  });
});

/** Key-value buckets over JetStream. */
import { quote } from './context.mjs';

const fail = (ctx, what) => (error) =>
  ctx.print(what, error.name, error.code ?? '', quote(error.message));

const manager = async (ctx) => {
  const nc = await ctx.connect();
  const { apiPrefix } = ctx.target;
  const js = ctx.jetstream.jetstream(nc, apiPrefix ? { apiPrefix } : {});
  return new ctx.kv.Kvm(js);
};

const entry = (e) => (e ? `${e.key}=${quote(e.string())} ${e.operation} @${e.revision}` : 'null');

async function sorted(iterator) {
  const all = [];
  for await (const item of iterator) all.push(item);
  return all.sort();
}

async function kvBasics(ctx) {
  const kvm = await manager(ctx);
  const kv = await kvm.create('b', { history: 5 });
  ctx.print('put', await kv.put('a', 'one'), await kv.put('a', 'two'), await kv.put('b.c', ''));
  ctx.print(entry(await kv.get('a')), entry(await kv.get('b.c')), entry(await kv.get('none')));
  ctx.print('old', entry(await kv.get('a', { revision: 1 })));
  ctx.print('created', await kv.create('new', 'x'));
  await kv.create('a', 'x').catch(fail(ctx, 'create'));
  ctx.print('updated', await kv.update('a', 'three', 2));
  await kv.update('a', 'x', 2).catch(fail(ctx, 'update'));
  await kv.delete('a');
  ctx.print('deleted', entry(await kv.get('a')));
  ctx.print('created again', await kv.create('a', 'four'));
  await kv.put('gone', '1');
  await kv.purge('gone');
  ctx.print('purged', entry(await kv.get('gone')));
  await kv.delete('b.c', { previousSeq: 1 }).catch(fail(ctx, 'delete'));
  for (let i = 0; i < 7; i += 1) await kv.put('many', String(i));
  for (const key of ['a', 'many', 'gone', '>']) {
    const history = [];
    for await (const e of await kv.history({ key })) history.push(entry(e));
    ctx.print('history', key, history.join(', '));
  }
  ctx.print('keys', (await sorted(await kv.keys())).join(' '));
  ctx.print('keys b.>', (await sorted(await kv.keys('b.>'))).join(' '));
  const status = await kv.status();
  ctx.print('status', status.bucket, status.values, status.history, status.ttl);
  await kv.purgeDeletes(0);
  ctx.print('left', (await kv.status()).values);
  const same = await kvm.open('b');
  ctx.print('opened', entry(await same.get('a')));
  ctx.print('buckets', (await sorted(kvm.list())).map((s) => s.bucket).join(' '));
  ctx.print('destroyed', await kv.destroy());
  const missing = await kvm.open('b');
  await missing.get('a').then((e) => ctx.print('missing', entry(e)), fail(ctx, 'missing'));
}

/** Collects a watch until it has heard `count` entries. */
async function watched(watch, count) {
  const seen = [];
  for await (const e of watch) {
    // How many are behind a live one depends on when it was delivered.
    seen.push(`${entry(e)}${e.isUpdate ? ' update' : ` delta ${e.delta}`}`);
    if (seen.length === count) break;
  }
  return seen;
}

async function kvWatch(ctx) {
  const kvm = await manager(ctx);
  const kv = await kvm.create('w', { history: 3 });
  for (const [key, value] of [
    ['a', '1'],
    ['a', '2'],
    ['b.x', '3'],
    ['b.y', '4'],
    ['c', '5'],
  ]) {
    await kv.put(key, value);
  }
  await kv.delete('c');
  const watches = {
    all: [{}, 4],
    history: [{ include: 'history' }, 6],
    'b.*': [{ key: 'b.*' }, 2],
    several: [{ key: ['a', 'b.y'] }, 2],
    'no deletes': [{ ignoreDeletes: true }, 3],
    'from revision': [{ resumeFromRevision: 3 }, 4],
  };
  for (const [name, [options, count]] of Object.entries(watches)) {
    const seen = await watched(await kv.watch(options), count);
    ctx.print(name, seen.join(', '));
  }
  const headersOnly = await kv.watch({ headers_only: true, key: 'b.*' });
  for await (const e of headersOnly) {
    ctx.print('headers only', e.key, e.value.length, e.length);
    if (e.key === 'b.y') break;
  }
  const updates = watched(await kv.watch({ include: 'updates' }), 4);
  const live = watched(await kv.watch({ key: 'd.>' }), 3);
  const other = await (await manager(ctx)).open('w');
  await other.put('d.1', 'x');
  await other.put('d.2', 'y');
  await other.delete('d.1'); // a purge may take away what a watch has not seen yet
  await other.purge('e');
  ctx.print('updates', (await updates).join(', '));
  ctx.print('live', (await live).join(', '));
  for (let i = 0; i < 500; i += 1) await other.put(`n.${i}`, String(i));
  const many = await watched(await kv.watch({ key: 'n.*' }), 500);
  ctx.print('many', many.length, many[0], many[499]);
  await kv.destroy();
}

// That a key ends in time is tried elsewhere: a nats-server takes a minute over it.
async function kvTtl(ctx) {
  const kvm = await manager(ctx);
  const kv = await kvm.create('t', { history: 2, markerTTL: 60_000 });
  ctx.print('created', await kv.create('short', 'x', '5m'), await kv.put('long', 'y'));
  ctx.print(entry(await kv.get('short')), entry(await kv.get('long')));
  const status = await kv.status();
  ctx.print('status', status.markerTTL, status.values);
  await kv.purge('long', { ttl: '5m' });
  ctx.print(entry(await kv.get('long')));
  const without = await kvm.create('u');
  await without.create('k', 'v', '5m').catch(fail(ctx, 'no ttl here'));
  await kv.destroy();
  await without.destroy();
}

export const kv = { 'kv-basics': kvBasics, 'kv-watch': kvWatch, 'kv-ttl': kvTtl };

/** What every NATS client does without persistence. Each scenario prints only what cannot vary. */
import { collect, quote, replyKind, show } from './context.mjs';

async function pubsub(ctx) {
  const [a, b] = [await ctx.connect(), await ctx.connect()];
  const got = collect(b, ctx.s('ps.x'));
  const again = collect(b, ctx.s('ps.*'));
  await b.flush();
  a.publish(ctx.s('ps.x'), 'one');
  a.publish(ctx.s('ps.x'));
  a.publish(
    ctx.s('ps.x'),
    Uint8Array.from({ length: 256 }, (_, byte) => byte),
  );
  a.publish(ctx.s('ps.x'), 'with reply', { reply: ctx.s('ps.reply') });
  a.publish(ctx.s('ps.nobody'), 'to nobody');
  await a.flush();
  await b.flush();
  got.forEach((m) => ctx.print(show(m), m.reply ?? 'no reply'));
  ctx.print('wildcard got', again.length);

  const own = collect(a, ctx.s('ps.echo'));
  const deaf = await ctx.connect({ noEcho: true });
  const unheard = collect(deaf, ctx.s('ps.echo'));
  await deaf.flush();
  a.publish(ctx.s('ps.echo'));
  deaf.publish(ctx.s('ps.echo'));
  await Promise.all([a.flush(), deaf.flush()]);
  await Promise.all([a.flush(), deaf.flush()]);
  ctx.print('echo', own.length, 'no echo', unheard.length);

  const many = collect(b, ctx.s('ps.many.>'));
  await b.flush();
  for (let i = 0; i < 2000; i += 1) a.publish(ctx.s(`ps.many.${i % 3}`), String(i));
  await a.flush();
  await b.flush();
  ctx.print(
    many.length,
    'in order',
    many.every((m, i) => m.string() === String(i)),
  );
  const big = collect(b, ctx.s('ps.big'));
  await b.flush();
  a.publish(ctx.s('ps.big'), new Uint8Array(1024 * 1024).fill(7));
  await a.flush();
  await b.flush();
  ctx.print(
    'big',
    big.map((m) => m.data.length + m.data.reduce((sum, byte) => sum + byte, 0)),
  );
}

const filters = ['w.*', 'w.>', 'w.*.c', 'w.a.*.c', 'w.a', 'w.a.>', '*.a', 'w.*.*', 'w.*.>', 'W.a'];
const literals = [
  'w',
  'w.a',
  'w.b',
  'W.a',
  'wa.a',
  'w.a.b',
  'w.b.c',
  'w.a.x.c',
  'w.a.b.c.d',
  'w.ü',
];

async function wildcard(ctx) {
  const [a, b] = [await ctx.connect(), await ctx.connect()];
  const heard = [];
  for (const filter of filters) {
    b.subscribe(ctx.s(filter), { callback: (_, m) => heard.push(`${filter}<-${m.string()}`) });
  }
  await b.flush();
  for (const literal of literals) {
    a.publish(ctx.s(literal), literal);
    await a.flush();
    await b.flush();
    ctx.print(literal, '->', heard.splice(0).sort().join(' '));
  }
}

async function queue(ctx) {
  const members = [];
  for (let i = 0; i < 3; i += 1) {
    const nc = await ctx.connect();
    members.push({ nc, got: [], sub: undefined });
    members[i].sub = nc.subscribe(ctx.s('q.work'), {
      queue: 'g',
      callback: (_, m) => members[i].got.push(Number(m.string())),
    });
    await nc.flush();
  }
  const plain = await ctx.connect();
  const heard = collect(plain, ctx.s('q.*'));
  const others = [0, 0];
  others.forEach((_, i) => {
    plain.subscribe(ctx.s('q.>'), { queue: 'other', callback: () => (others[i] += 1) });
  });
  await plain.flush();
  const sender = await ctx.connect();
  const everybody = [...members.map(({ nc }) => nc), plain];
  const send = async (from, to) => {
    for (let i = from; i < to; i += 1) sender.publish(ctx.s('q.work'), String(i));
    await sender.flush();
    for (const nc of everybody) await nc.flush();
    const all = members.flatMap(({ got }) => got).sort((x, y) => x - y);
    ctx.print('once each', all.length === to && all.every((n, i) => n === i));
  };
  await send(0, 300);
  ctx.print(
    'each member has some',
    members.every(({ got }) => got.length > 30),
  );
  ctx.print(
    'in order',
    members.every(({ got }) => got.every((n, i) => i === 0 || got[i - 1] < n)),
  );
  ctx.print('plain', heard.length, 'other group', others[0] + others[1]);
  members[0].sub.unsubscribe();
  await members[0].nc.flush();
  await send(300, 400);
  await members[1].nc.drain();
  everybody.splice(1, 1);
  await send(400, 500);
  ctx.print('left over', members[2].got.filter((n) => n >= 400).length);
}

const failure = (error) => [error.name, quote(error.message)].join(' ');

async function request(ctx) {
  const [a, b] = [await ctx.connect(), await ctx.connect()];
  b.subscribe(ctx.s('rq.echo'), {
    callback: (_, m) => {
      m.respond(`<${m.string()}>`, { headers: m.headers });
    },
  });
  b.subscribe(ctx.s('rq.silent'), { callback: () => undefined });
  b.subscribe(ctx.s('rq.kind'), { callback: (_, m) => m.respond(replyKind(m.reply)) });
  await b.flush();
  ctx.print((await a.request(ctx.s('rq.echo'), 'mux')).string());
  ctx.print((await a.request(ctx.s('rq.echo'), 'own', { noMux: true, timeout: 5000 })).string());
  ctx.print((await a.request(ctx.s('rq.kind'))).string());
  const answers = await Promise.all(
    Array.from({ length: 50 }, (_, i) => a.request(ctx.s('rq.echo'), String(i))),
  );
  ctx.print(answers.map((m) => m.string()).join(''));
  for (const options of [{ timeout: 5000 }, { noMux: true, timeout: 5000 }]) {
    await a.request(ctx.s('rq.nobody'), '', options).catch((e) => ctx.print(failure(e)));
    const short = { ...options, timeout: 200 };
    await a.request(ctx.s('rq.silent'), '', short).catch((e) => ctx.print(failure(e)));
  }
  const inbox = ctx.inbox();
  const replies = collect(a, inbox);
  a.publish(ctx.s('rq.nobody'), 'x', { reply: inbox });
  await a.flush();
  for (const m of replies) ctx.print(show(m), m.headers?.code, quote(m.headers?.description));
  const deaf = await ctx.connect({ noResponders: false });
  const never = collect(deaf, `${inbox}2`);
  deaf.publish(ctx.s('rq.nobody'), 'x', { reply: `${inbox}2` });
  await deaf.flush();
  ctx.print('without no_responders', never.length);
  const c = await ctx.connect();
  for (const nc of [b, c]) {
    nc.subscribe(ctx.s('rq.all'), { callback: (_, m) => m.respond('one of many') });
    await nc.flush();
  }
  const many = await a.requestMany(ctx.s('rq.all'), '', {
    strategy: 'count',
    maxMessages: 2,
    maxWait: 10_000,
  });
  for await (const m of many) ctx.print(m.string());
}

async function headers(ctx) {
  const [a, b] = [await ctx.connect(), await ctx.connect()];
  const got = collect(b, ctx.s('hd'));
  await b.flush();
  const set = (pairs) => {
    const hdrs = ctx.core.headers();
    for (const [key, value] of pairs) hdrs.append(key, value);
    return hdrs;
  };
  const sets = [
    [['Key', 'value']],
    [
      ['a', '1'],
      ['b', '2'],
      ['a', '3'],
      ['A', '4'],
    ],
    [
      ['empty', ''],
      ['Case-Kept', 'x'],
      ['case-kept', 'y'],
    ],
    [
      ['unicode', 'grüß dich 🐦'],
      ['colon', 'a: b: c'],
      ['spaces', 'in  the   middle'],
    ],
    Array.from({ length: 60 }, (_, i) => [`k${i}`, 'v'.repeat(i)]),
  ];
  for (const pairs of sets) a.publish(ctx.s('hd'), 'body', { headers: set(pairs) });
  a.publish(ctx.s('hd'), '', { headers: set([['only', 'headers']]) });
  a.publish(ctx.s('hd'), 'none');
  await a.flush();
  await b.flush();
  for (const m of got) {
    const pairs = m.headers ? m.headers.keys().map((key) => [key, m.headers.values(key)]) : 'none';
    ctx.print(show(m), JSON.stringify(pairs));
  }
}

async function drain(ctx) {
  const [a, b, c] = [await ctx.connect(), await ctx.connect(), await ctx.connect()];
  const slow = [];
  const sub = b.subscribe(ctx.s('dr.sub'), { callback: (_, m) => slow.push(m.string()) });
  await b.flush();
  for (let i = 0; i < 100; i += 1) a.publish(ctx.s('dr.sub'), String(i));
  await a.flush();
  await sub.drain();
  a.publish(ctx.s('dr.sub'), 'late');
  await a.flush();
  await b.flush();
  ctx.print('drained', slow.length, slow.at(-1), 'closed', sub.isClosed());
  const whole = [];
  b.subscribe(ctx.s('dr.conn'), {
    callback: (_, m) => {
      whole.push(m.string());
      b.publish(ctx.s('dr.out'), m.string());
    },
  });
  const out = collect(c, ctx.s('dr.out'));
  await Promise.all([b.flush(), c.flush()]);
  for (let i = 0; i < 100; i += 1) a.publish(ctx.s('dr.conn'), String(i));
  await a.flush();
  await b.drain();
  await c.flush();
  ctx.print('connection drained', whole.length, out.length, b.isClosed());
}

async function unsubMax(ctx) {
  const [a, b] = [await ctx.connect(), await ctx.connect()];
  const first = [];
  b.subscribe(ctx.s('um'), { max: 3, callback: (_, m) => first.push(m.string()) });
  const second = [];
  const later = b.subscribe(ctx.s('um'), { callback: (_, m) => second.push(m.string()) });
  await b.flush();
  const send = async (...words) => {
    for (const word of words) a.publish(ctx.s('um'), word);
    await a.flush();
    await b.flush();
  };
  await send('1', '2', '3', '4', '5');
  later.unsubscribe(7);
  await b.flush();
  await send('6', '7', '8', '9');
  const past = [];
  const gone = b.subscribe(ctx.s('um'), { callback: (_, m) => past.push(m.string()) });
  await b.flush();
  await send('a', 'b');
  gone.unsubscribe(1);
  await b.flush();
  await send('c');
  ctx.print(first.join(' '), '|', second.join(' '), '|', past.join(' '));
}

async function reconnect(ctx) {
  const options = { reconnectTimeWait: 50, maxReconnectAttempts: -1 };
  const [a, b] = [await ctx.connect(options), await ctx.connect(options)];
  const got = collect(b, ctx.s('rc.*'));
  let limited = 0;
  b.subscribe(ctx.s('rc.max'), { max: 3, callback: () => (limited += 1) });
  b.subscribe(ctx.s('rc.serve'), { queue: 'q', callback: (_, m) => m.respond('served') });
  await b.flush();
  a.publish(ctx.s('rc.max'));
  await a.flush();
  await b.flush();
  const back = [a, b].map((nc) => ctx.event(nc, 'reconnect'));
  await ctx.ask('restart');
  await Promise.all(back);
  await b.flush();
  for (let i = 0; i < 4; i += 1) a.publish(ctx.s('rc.max'), String(i));
  await a.flush();
  await b.flush();
  ctx.print(got.length, 'limited', limited);
  ctx.print((await a.request(ctx.s('rc.serve'), '', { timeout: 5000 })).string());
}

export const core = {
  pubsub,
  wildcard,
  queue,
  request,
  headers,
  drain,
  'unsub-max': unsubMax,
  reconnect,
};

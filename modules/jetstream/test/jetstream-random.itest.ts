import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { EnginePair } from './support/engine-pair.js';
import { Random } from '@rookery/core/testing';

const operationsPerStream = 120;
const streams = 6;

let pair: EnginePair;
beforeAll(async () => {
  pair = await EnginePair.start();
});
afterAll(() => pair?.close());

/** Configurations whose limits meet each other often. */
function configOf(random: Random, name: string): Record<string, unknown> {
  const maybe = (value: unknown): unknown => (random.below(2) === 0 ? value : undefined);
  const discard = random.pick(['old', 'new']);
  const perSubject = maybe(random.pick([1, 2, 3]));
  return {
    name,
    subjects: [`${name}.>`],
    max_msgs: maybe(5 + random.below(10)),
    max_bytes: maybe(300 + random.below(500)),
    max_msgs_per_subject: perSubject,
    max_msg_size: maybe(30),
    discard,
    discard_new_per_subject: perSubject !== undefined && discard === 'new' && random.below(2) === 0,
    allow_rollup_hdrs: true,
    allow_direct: true,
    allow_msg_ttl: true,
    first_seq: maybe(100),
  };
}

async function step(random: Random, name: string): Promise<unknown> {
  const subject = `${name}.${random.pick(['a', 'b', 'c.d', 'e.f.g'])}`;
  const filter = `${name}.${random.pick(['a', '*', '>', '*.*', 'c.>', 'none'])}`;
  const seq = random.below(80);
  const payload = 'x'.repeat(random.below(40));
  const headers = random.pick<Record<string, string>>([
    { 'Nats-Msg-Id': `${random.below(20)}` },
    { 'Nats-Expected-Last-Sequence': `${seq}` },
    { 'Nats-Expected-Last-Subject-Sequence': random.pick(['0', `${seq}`]) },
    { 'Nats-Rollup': random.pick(['sub', 'sub', 'all']) },
    { 'Nats-TTL': '1h', 'Nats-Msg-Id': `${random.below(20)}` },
    { some: 'header' },
  ]);
  switch (random.below(13)) {
    case 0:
      return pair.api(`STREAM.MSG.DELETE.${name}`, { seq, no_erase: random.below(2) === 0 });
    case 1:
      return pair.api(`STREAM.MSG.GET.${name}`, random.pick([{ seq }, { last_by_subj: filter }]));
    case 2:
      return pair.api(`STREAM.MSG.GET.${name}`, { seq, next_by_subj: filter });
    case 3:
      return pair.api(
        `STREAM.PURGE.${name}`,
        random.pick([{ filter, keep: random.below(3) }, { filter, seq }, { seq: seq % 20 }]),
      );
    case 4: {
      // A server's file store finds nothing up to what is still to come; ours finds all.
      const last = pair.ours.store.stream(name)!.state.lastSeq;
      const ask = { multi_last: [filter], up_to_seq: Math.min(seq, last) };
      return pair.sameMany(`$JS.API.DIRECT.GET.${name}`, ask);
    }
    case 5:
      return pair.sameMany(`$JS.API.DIRECT.GET.${name}`, { next_by_subj: filter, seq, batch: 3 });
    case 6:
      // Without the list of what is deleted: a server may still list what lies before its first.
      return pair.api(`STREAM.INFO.${name}`, { subjects_filter: filter });
    case 7: {
      const { first_seq: _first, ...config } = configOf(random, name);
      return pair.api(`STREAM.UPDATE.${name}`, config);
    }
    case 8:
    case 9:
      return pair.same(subject, payload, headers);
    default:
      return pair.same(subject, payload);
  }
}

test('random requests are answered like by nats-server', async () => {
  const random = Random.seeded();
  for (let at = 0; at < streams; at += 1) {
    const config = configOf(random, `random${at}`);
    await pair.withStream(config, async () => {
      for (let i = 0; i < operationsPerStream; i += 1) {
        await step(random, `random${at}`);
        expect({ seed: random.seed, config, found: pair.differences }).toMatchObject({ found: [] });
      }
    });
  }
});

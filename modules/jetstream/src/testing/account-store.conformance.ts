import { Random, type TestKit } from '@rookery/core/testing';
import type { AccountStore, StoredMessage, StreamStore } from '../engine/account-store.js';
import { AccountStoreModel, type ModelStream } from './account-store.model.js';

export interface AccountStoreUnderTest {
  readonly store: AccountStore;
  /** Closes and opens again; null when nothing outlives a close. */
  readonly reopen: (() => AccountStore) | null;
  readonly dispose: () => void;
}

const subjects = [
  'a',
  'a.b',
  'a.b.c',
  'a.c',
  'b',
  'b.a',
  '$KV.x.k1',
  '$KV.x.k2',
  'd.*x.[1]?',
  'é.ü',
];
const filters = [
  '>',
  'a',
  'a.>',
  'a.*',
  '*.b',
  '*.*.c',
  'a.b',
  '$KV.x.>',
  'd.*.>',
  'd.*x.*',
  'nobody',
  'é.*',
];

/** What every {@link AccountStore} must do. Random work is compared with a model of plain arrays. */
export function accountStoreConformance(
  name: string,
  jest: TestKit,
  make: () => AccountStoreUnderTest,
): void {
  const { describe, it, expect, beforeEach, afterEach } = jest;

  describe(`${name} keeps an account`, () => {
    let under: AccountStoreUnderTest;
    beforeEach(() => {
      under = make();
    });
    afterEach(() => under.dispose());

    const message = (subject: string, text = 'x', timeNs = 1n) => ({
      subject,
      timeNs,
      headers: null,
      payload: Buffer.from(text),
    });

    it('with nothing in it at first', () => {
      expect(under.store.streams()).toEqual([]);
      expect(under.store.stream('s')).toBeNull();
      expect(under.store.dirty).toBe(false);
      const stream = under.store.createStream('s', '{}', 5n);
      expect(under.store.dirty).toBe(true);
      expect(stateOf(stream)).toEqual([1, 0, 0, 0, 0n, 0n]);
      expect(stream.createdNs).toBe(5n);
    });

    it('counts what a message weighs as a nats-server does', () => {
      const stream = under.store.createStream('s', '{}', 1n);
      stream.append(message('foo', 'hello'));
      expect(stream.state.bytes).toBe(38);
      stream.append({ ...message('foo', 'hello'), headers: Buffer.from('NATS/1.0\r\n\r\n') });
      expect(stream.state.bytes).toBe(38 + 54);
      expect(under.store.bytes()).toBe(92);
    });

    it('moves the first sequence on over an empty stream', () => {
      const stream = under.store.createStream('s', '{}', 1n);
      expect(stream.purge({ beforeSeq: 100 })).toBe(0);
      expect(stateOf(stream).slice(0, 3)).toEqual([100, 99, 0]);
      expect(stream.append(message('a'))).toBe(100);
    });

    it('finds messages by time', () => {
      const stream = under.store.createStream('s', '{}', 1n);
      for (let i = 1; i <= 100; i += 1) stream.append(message('a', 'x', BigInt(i) * 1000n));
      stream.remove(50);
      expect(stream.seqAtTime(0n)).toBe(1);
      expect(stream.seqAtTime(1001n)).toBe(2);
      expect(stream.seqAtTime(50_000n)).toBe(51);
      expect(stream.seqAtTime(100_001n)).toBe(101);
    });

    it('tells what expires', () => {
      const stream = under.store.createStream('s', '{}', 1n);
      expect(stream.nextExpiryMs()).toBeNull();
      for (const expiresAtMs of [300, 100, 200]) stream.append({ ...message('a'), expiresAtMs });
      stream.append(message('a'));
      expect(stream.nextExpiryMs()).toBe(100);
      expect(stream.expired(250, 10).map((found) => found.seq)).toEqual([2, 3]);
      expect(stream.expired(250, 1).map((found) => found.seq)).toEqual([2]);
      stream.remove(2);
      expect(stream.nextExpiryMs()).toBe(200);
    });

    it('lets its caller write while it reads', () => {
      const stream = under.store.createStream('s', '{}', 1n);
      for (let i = 0; i < 1_000; i += 1) stream.append(message(`k.${i}`));
      const seen: number[] = [];
      for (const { seq } of stream.read(1, ['k.>'])) {
        seen.push(seq);
        stream.remove(seq);
        if (seq % 100 === 0) under.store.commit();
      }
      expect(seen.length).toBe(1_000);
      for (let i = 0; i < 3_000; i += 1) stream.append(message(`k.${i}`));
      for (const { subject } of stream.subjects('*.*')) stream.purge({ filter: subject });
      expect(stream.state.messages).toBe(0);
    });

    it('keeps consumers and their positions', () => {
      const stream = under.store.createStream('s', '{}', 1n);
      stream.saveConsumer('c', '{"a":1}', 7n);
      under.store.commit();
      stream.saveConsumerState('c', Buffer.from('one'));
      expect(under.store.dirty).toBe(false);
      const expected = { name: 'c', config: '{"a":1}', createdNs: 7n, state: Buffer.from('one') };
      expect(stream.consumers()).toEqual([expected]);
      under.store.flush();
      const after = under.reopen ? under.reopen().stream('s')! : stream;
      expect(after.consumers()).toEqual([expected]);
      after.deleteConsumer('c');
      expect(after.consumers()).toEqual([]);
    });

    const likeItsModel = (seed: number) => (): void => {
      const random = new Random(seed);
      const model = new AccountStoreModel();
      let { store } = under;
      const makeStream = (streamName: string): void => {
        store.createStream(streamName, '{}', 1n);
        model.create(streamName);
      };
      makeStream('s');
      makeStream('t');
      store.commit();
      model.commit();
      let timeNs = 1_700_000_000_000_000_000n;
      const steps: (() => void)[] = [
        ...Array.from({ length: 8 }, () => () => {
          const { stream, twin } = both();
          timeNs += BigInt(random.below(5_000_000));
          const appended = {
            subject: random.pick(subjects),
            timeNs,
            headers: random.chance(0.3) ? Buffer.from('NATS/1.0\r\nA: b\r\n\r\n') : null,
            payload: Buffer.alloc(random.below(300), 97),
            ...(random.chance(0.1) ? { expiresAtMs: random.below(1_000) } : {}),
          };
          expect(stream.append(appended)).toBe(twin.append(appended));
        }),
        ...Array.from({ length: 3 }, () => () => {
          const { stream, twin } = both();
          const span = twin.lastSeq - twin.firstSeq + 2;
          const seq = random.chance(0.4) ? twin.firstSeq : twin.firstSeq + random.below(span);
          expect(stream.remove(seq, random.chance(0.1))).toBe(twin.remove(seq));
        }),
        () => {
          if (random.chance(0.6)) return;
          const { stream, twin } = both();
          const span = twin.lastSeq - twin.firstSeq + 2;
          const range = {
            ...(random.chance(0.5) ? { filter: random.pick(filters) } : {}),
            ...(random.chance(0.7) ? { beforeSeq: twin.firstSeq + random.below(span) } : {}),
            ...(random.chance(0.3) ? { keep: random.below(5) } : {}),
          };
          expect(stream.purge(range)).toBe(twin.purge(range));
        },
        () => {
          store.commit();
          model.commit();
        },
        () => {
          if (random.chance(0.5)) return;
          store.rollback();
          model.rollback();
        },
        () => {
          if (random.chance(0.9)) return;
          if (model.streams.has('t')) {
            store.deleteStream('t');
            model.delete('t');
          } else makeStream('t');
        },
        () => {
          if (random.chance(0.7) || !under.reopen) return;
          store.commit();
          model.commit();
          store = under.reopen();
        },
      ];
      const both = (): { stream: StreamStore; twin: ModelStream } => {
        const streamName = random.pick([...model.streams.keys()]);
        return { stream: store.stream(streamName)!, twin: model.streams.get(streamName)! };
      };
      for (let step = 0; step < 600; step += 1) {
        random.pick(steps)();
        if (step % 20 === 0) {
          expect(store.streams().map((each) => each.name)).toEqual([...model.streams.keys()]);
          for (const [streamName, twin] of model.streams) compare(store.stream(streamName)!, twin);
        }
      }
    };
    for (const seed of [1, 2, 3, 4]) {
      it(`as a model of it does, whatever happens (seed ${seed})`, likeItsModel(seed));
    }

    function compare(stream: StreamStore, twin: ModelStream): void {
      expect(stateOf(stream)).toEqual(twin.state());
      expect(stream.deletedSeqs()).toEqual(twin.deletedSeqs());
      expect(stream.subjectCount()).toBe(twin.subjects('>').length);
      expect(stream.nextExpiryMs()).toBe(twin.nextExpiryMs());
      const middle = Math.floor((twin.firstSeq + twin.lastSeq) / 2);
      for (const from of [0, twin.firstSeq, middle, twin.lastSeq, twin.lastSeq + 1]) {
        expect(plain([...stream.read(from, null)])).toEqual(plain(twin.read(from, null)));
        expect(stream.count(from, null)).toBe(twin.read(from, null).length);
        const found = stream.get(from);
        expect(plain(found ? [found] : [])).toEqual(plain(twin.at(from)));
      }
      for (const filter of filters) {
        const wanted = [filter];
        expect([...stream.subjects(filter)]).toEqual(twin.subjects(filter));
        expect(stream.lastPerSubject(wanted)).toEqual(twin.lastPerSubject(wanted));
        expect(plain([...stream.read(middle, wanted)])).toEqual(plain(twin.read(middle, wanted)));
        expect(stream.count(middle, wanted)).toBe(twin.read(middle, wanted).length);
        expect(stream.last(filter)?.seq).toBe(twin.read(0, wanted).at(-1)?.seq);
        const upTo = twin.read(0, wanted).filter(({ seq }) => seq <= middle);
        expect(stream.last(filter, middle)?.seq).toBe(upTo.at(-1)?.seq);
      }
      const many = ['a', 'a.*', '*.b', 'a.b.c'];
      expect(plain([...stream.read(middle, many)])).toEqual(plain(twin.read(middle, many)));
      expect(stream.count(middle, many)).toBe(twin.read(middle, many).length);
      expect(stream.lastPerSubject(many)).toEqual(twin.lastPerSubject(many));
      for (const subject of subjects) {
        expect(stream.lastSeqOf(subject)).toBe(twin.read(0, [subject]).at(-1)?.seq ?? 0);
      }
    }
  });
}

const stateOf = ({ state }: StreamStore): unknown[] => [
  state.firstSeq,
  state.lastSeq,
  state.messages,
  state.bytes,
  state.firstTimeNs,
  state.lastTimeNs,
];

const plain = (messages: readonly StoredMessage[]): string[] =>
  messages.map(
    ({ seq, subject, timeNs, headers, payload }) =>
      `${seq} ${subject} ${timeNs} ${headers?.toString('latin1')} ${payload.toString('latin1')}`,
  );

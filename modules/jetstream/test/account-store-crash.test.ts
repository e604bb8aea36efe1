import {
  cpSync,
  existsSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { withFileSizeMax } from '@rookery/core/testing';
import { openTestStore } from '@rookery/jetstream/testing';
import type { AccountStore, StreamStore } from '../src/engine/account-store.js';
import { quarantine, quarantinedAs } from '../src/store/quarantine.js';
import { StoreCorruptError } from '../src/store/store-errors.js';
import { Random } from '@rookery/core/testing';

/** Everything that a stream says of itself without and with its messages. */
function described(stream: StreamStore) {
  const { firstSeq, lastSeq, messages, bytes, firstTimeNs, lastTimeNs } = stream.state;
  const all = [...stream.read(1, null)];
  return {
    state: { firstSeq, lastSeq, messages, bytes, firstTimeNs, lastTimeNs },
    subjects: [...stream.subjects('>')],
    subjectCount: stream.subjectCount(),
    lastPerSubject: stream.lastPerSubject(null),
    deleted: stream.deletedSeqs(),
    messages: all.map(({ seq, subject }) => `${seq} ${subject}`),
  };
}

/** The same, counted from the messages alone. */
function recounted(stream: StreamStore) {
  const subjects = new Map<string, { messages: number; firstSeq: number; lastSeq: number }>();
  for (const { seq, subject } of stream.read(1, null)) {
    const known = subjects.get(subject);
    if (!known) subjects.set(subject, { messages: 1, firstSeq: seq, lastSeq: seq });
    else {
      known.messages += 1;
      known.lastSeq = seq;
    }
  }
  const entries = [...subjects].map(([subject, counts]) => ({ subject, ...counts }));
  return {
    subjects: entries.sort((a, b) => (a.subject < b.subject ? -1 : 1)),
    lastPerSubject: entries.map(({ lastSeq }) => lastSeq).sort((a, b) => a - b),
  };
}

describe('an account’s file that was never closed', () => {
  let folder: string;
  let store: AccountStore;
  const file = (name: string): string => join(folder, name);

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'rookery-crash-'));
    store = openTestStore(file('a.sqlite'));
  });
  afterEach(() => {
    store.close();
    rmSync(folder, { recursive: true });
  });

  /** What another process finds when this one is killed now. */
  function afterCrash<T>(look: (found: AccountStore) => T): T {
    for (const suffix of ['', '-wal', '-tail']) {
      rmSync(file(`b.sqlite${suffix}`), { recursive: true, force: true });
      if (!existsSync(file(`a.sqlite${suffix}`))) continue;
      cpSync(file(`a.sqlite${suffix}`), file(`b.sqlite${suffix}`), { recursive: true });
    }
    const found = openTestStore(file('b.sqlite'));
    try {
      return look(found);
    } finally {
      found.close();
    }
  }

  const append = (stream: StreamStore, subject: string): number =>
    stream.append({ subject, timeNs: BigInt(stream.state.lastSeq + 1), headers: null, payload });
  const payload = Buffer.from('x');

  it('counts messages that came after its last count', () => {
    const stream = store.createStream('S', '{}', 1n);
    append(stream, 'a');
    store.commit();
    for (let n = 0; n < 5; n += 1) {
      append(stream, 'a');
      store.commit();
    }
    const now = described(stream);
    expect(now.state).toMatchObject({ messages: 6, lastSeq: 6, lastTimeNs: 6n });
    expect(afterCrash((found) => described(found.stream('S')!))).toEqual(now);
    // Taken up, counted on, and ended without a word once more.
    expect(
      afterCrash((found) => append(found.stream('S')!, 'a') + found.stream('S')!.state.messages),
    ).toBe(7 + 7);
  });

  it('undoes a transaction without losing count of those before', () => {
    const stream = store.createStream('S', '{}', 1n);
    append(stream, 'a');
    store.commit();
    append(stream, 'a');
    store.commit();
    const before = described(stream);
    append(stream, 'a');
    append(stream, 'b');
    store.rollback();
    expect(described(stream)).toEqual(before);
  });

  describe('with messages that are on disk in front of it', () => {
    const tail = (name = ''): string => file(join('a.sqlite-tail', name));
    const counts = (found: AccountStore) => found.stream('S')!.state.messages;
    let stream: StreamStore;

    beforeEach(() => {
      stream = store.createStream('S', '{}', 1n);
      store.commit();
      for (let n = 0; n < 120; n += 1) {
        append(stream, 'a');
        store.commit();
      }
    });

    it('has them in small files, which are empty once the file has them', () => {
      const sizes = () => readdirSync(tail()).map((name) => statSync(tail(name)).size);
      const used = sizes();
      expect(used.length).toBeGreaterThan(2);
      expect(Math.max(...used)).toBeLessThanOrEqual(2_048);
      store.flush();
      expect(sizes()).toEqual(used.map(() => 0));
      append(stream, 'a');
      store.commit();
      expect(sizes().filter((size) => size > 0)).toHaveLength(1);
      expect(afterCrash(counts)).toBe(121);
    });

    it('leaves out what was being written', () => {
      const last = tail(String(readdirSync(tail()).length - 1));
      truncateSync(last, statSync(last).size - 1);
      expect(afterCrash(counts)).toBe(119);
    });

    it('is damaged when one is missing among them', () => {
      truncateSync(tail('1'), 0);
      expect(() => afterCrash(counts)).toThrow(StoreCorruptError);
    });

    it('goes on when a process ended while it removed them', () => {
      store.flush();
      rmSync(tail('0'));
      const found = afterCrash((again) => {
        for (let n = 0; n < 120; n += 1) {
          append(again.stream('S')!, 'a');
          again.commit();
        }
        return counts(again);
      });
      expect(found).toBe(240);
    });

    it('keeps messages with headers and expiry, and those too large for it, in order', () => {
      const message = { timeNs: 100n, headers: Buffer.from('NATS/1.0\r\nA: b\r\n\r\n') };
      for (const bytes of [1_500, 3_000, 20_000, 10]) {
        const body = Buffer.alloc(bytes, 1);
        stream.append({ ...message, subject: 'b', payload: body, expiresAtMs: 5_000 + bytes });
        store.commit();
      }
      const now = described(stream);
      const [seq, dueMs] = [stream.state.lastSeq, stream.nextExpiryMs()];
      afterCrash((found) => {
        expect(described(found.stream('S')!)).toEqual(now);
        expect(found.stream('S')!.get(seq)).toEqual(stream.get(seq));
        expect(found.stream('S')!.nextExpiryMs()).toBe(dueMs);
      });
    });

    it('is put aside with them', () => {
      store.close();
      store = openTestStore(file('b.sqlite'));
      writeFileSync(tail('0'), 'x');
      const aside = quarantine(file('a.sqlite'), 0);
      expect(readFileSync(join(`${aside}-tail`, '0'), 'latin1')).toBe('x');
      expect(existsSync(tail())).toBe(false);
      expect(quarantinedAs(file('a.sqlite'))).toBe(aside);
    });

    it('passes over those of a stream that was deleted since, or made anew', () => {
      for (const name of readdirSync(tail())) cpSync(tail(name), file(`kept-${name}`));
      store.deleteStream('S');
      const again = store.createStream('S', '{}', 2n);
      append(again, 'b');
      store.commit();
      // As if the power had gone before they were cleared.
      for (const name of readdirSync(tail())) cpSync(file(`kept-${name}`), tail(name));
      expect(afterCrash(counts)).toBe(1);
    });
  });

  it('has nothing of messages that fit nowhere, now or after a crash', () => {
    const stream = store.createStream('S', '{}', 1n);
    store.commit();
    append(stream, 'a');
    store.commit();
    const before = described(stream);
    const ahead = file(join('a.sqlite-tail', '0'));
    // In front of the file there is room for the first of two; the file itself cannot grow.
    const each = statSync(ahead).size;
    append(stream, 'b');
    append(stream, 'c');
    expect(() => withFileSizeMax(2 * each + 5, () => store.commit())).toThrow();
    store.rollback();
    expect(described(stream)).toEqual(before);
    expect(afterCrash((found) => described(found.stream('S')!))).toEqual(before);
    expect(append(stream, 'd')).toBe(2);
    store.commit();
    const after = described(stream);
    expect(after.messages).toEqual(['1 a', '2 d']);
    expect(afterCrash((found) => described(found.stream('S')!))).toEqual(after);
  });

  it('commits to the file when nothing can be put in front of it', () => {
    writeFileSync(file('a.sqlite-tail'), '');
    const stream = store.createStream('S', '{}', 1n);
    store.commit();
    for (let n = 0; n < 3; n += 1) {
      append(stream, 'a');
      store.commit();
    }
    rmSync(file('a.sqlite-tail'));
    expect(afterCrash((found) => found.stream('S')!.state.messages)).toBe(3);
  });

  it('says after any work what it said before', () => {
    const random = Random.seeded();
    const stream = store.createStream('S', '{}', 1n);
    store.commit();
    for (let round = 0; round < 150; round += 1) {
      const steps = 1 + random.below(random.below(20) === 0 ? 1_200 : 4);
      for (let step = 0; step < steps; step += 1) {
        const choice = random.below(40);
        const { firstSeq, lastSeq } = stream.state;
        if (choice === 0) stream.remove(firstSeq + random.below(lastSeq - firstSeq + 2));
        else if (choice === 1) stream.purge({ filter: `s.${random.below(8)}`, keep: 2 });
        else if (choice === 2) stream.purge({ beforeSeq: firstSeq + random.below(20) });
        else if (choice === 3 && random.below(10) === 0) store.flush();
        else append(stream, `s.${random.below(random.below(30) === 0 ? 300 : 8)}`);
      }
      if (random.below(8) === 0) store.rollback();
      else store.commit();
      const now = described(stream);
      expect(now).toMatchObject(recounted(stream));
      if (round % 5 === 0) {
        expect(afterCrash((found) => described(found.stream('S')!))).toEqual(now);
      }
    }
  });
});

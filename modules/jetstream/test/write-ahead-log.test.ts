import {
  appendFileSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { withFileSizeMax } from '@rookery/core/testing';
import {
  WriteAheadLog,
  tailBatchBytesMax,
  type WriteAheadRecord,
} from '../src/store/write-ahead-log.js';

/** What stands before each record: its length, sum, number and stream. */
const headBytes = 26;
const fileBytes = 2_048;
const filesMax = 16;

const record = (text: string, streamId = 1): WriteAheadRecord => {
  return { streamId, streamCreatedNs: 7n, record: Buffer.from(text) };
};

describe('the write-ahead log in front of an account’s file', () => {
  let folder: string;
  let tail: WriteAheadLog;
  const path = (index: number): string => join(folder, String(index));
  const sizes = (): number[] => readdirSync(folder).map((name) => statSync(path(+name)).size);
  const texts = (of: WriteAheadLog): string[] => of.read().map((each) => each.record.toString());
  /** What the next process finds. */
  const found = (): string[] => texts(new WriteAheadLog(folder, true));
  const open = (): number =>
    readdirSync('/proc/self/fd').filter((fd) => {
      try {
        return readlinkSync(`/proc/self/fd/${fd}`).startsWith(folder);
      } catch {
        return false;
      }
    }).length;

  beforeEach(() => {
    folder = join(mkdtempSync(join(tmpdir(), 'rookery-tail-')), 'a', 'tail');
    tail = new WriteAheadLog(folder, true);
  });
  afterEach(() => {
    tail.close();
    rmSync(join(folder, '../..'), { recursive: true });
  });

  it('gives back what was appended, in its order and with its stream', () => {
    expect(tail.isLeft).toBe(false);
    expect(tail.append([record('a', 3), record('b', 4)])).toBe(true);
    expect(tail.append([record('c')])).toBe(true);
    const next = new WriteAheadLog(folder, true);
    expect(next.isLeft).toBe(true);
    expect(next.read()).toMatchObject([record('a', 3), record('b', 4), record('c')]);
    expect(open()).toBe(1);
    tail.close();
    expect(open()).toBe(0);
  });

  it('leaves nothing of a batch that did not fit on the disk', () => {
    expect(tail.append([record('kept')])).toBe(true);
    const [before] = sizes();
    // The first message of the batch is whole, the second is cut off.
    const room = before! + headBytes + 'refused'.length + 10;
    const refused = withFileSizeMax(room, () => tail.append([record('refused'), record('too')]));
    expect(refused).toBe(false);
    expect(sizes()).toEqual([before]);
    expect(found()).toEqual(['kept']);
    expect(texts(tail)).toEqual(['kept']);
    expect(tail.append([record('b')])).toBe(true);
    expect(found()).toEqual(['kept', 'b']);
  });

  it('refuses a batch without room in the folder, and one that is empty or too large', () => {
    expect(tail.append([])).toBe(false);
    expect(existsSync(folder)).toBe(false);
    const large = 'x'.repeat(tailBatchBytesMax - headBytes);
    expect(tail.append([record(`${large}y`)])).toBe(false);
    expect(tail.append([record(large)])).toBe(true);
    expect(found()).toEqual([large]);
    const blocked = new WriteAheadLog(join(path(0), 'no-folder'), true);
    expect(blocked.append([record('a')])).toBe(false);
  });

  it('goes on in a file up to its size, then in the next, until all are full', () => {
    const half = 'x'.repeat(fileBytes / 2 - headBytes);
    for (let n = 0; n < 2 * filesMax; n += 1) expect(tail.append([record(half)])).toBe(true);
    expect(sizes()).toEqual(Array.from({ length: filesMax }, () => fileBytes));
    expect(tail.append([record('a')])).toBe(false);
    expect(open()).toBe(1);
    expect(found()).toHaveLength(2 * filesMax);
    tail.clear();
    expect([open(), tail.isLeft]).toEqual([0, false]);
    expect(sizes()).toEqual(Array.from({ length: filesMax }, () => 0));
    expect(found()).toEqual([]);
    // One byte more than a file has.
    expect([tail.append([record(half)]), tail.append([record(`${half}y`)])]).toEqual([true, true]);
    expect(sizes().filter((size) => size > 0)).toEqual([fileBytes / 2, fileBytes / 2 + 1]);
  });

  it('goes on behind what a dead process left, in its order', () => {
    const half = 'x'.repeat(fileBytes / 2);
    expect(tail.append([record(`${half}1`)])).toBe(true);
    expect(tail.append([record(`${half}2`)])).toBe(true);
    const next = new WriteAheadLog(folder, true);
    expect(next.read()).toHaveLength(2);
    expect(next.append([record('3')])).toBe(true);
    next.close();
    expect(found().map((text) => text.at(-1))).toEqual(['1', '2', '3']);
    expect(sizes()).toHaveLength(3);
    next.clear();
    expect(found()).toEqual([]);
  });

  it('finds later files where an earlier one is missing, in the order of their messages', () => {
    const long = 'x'.repeat(fileBytes - headBytes - 1);
    for (const end of ['1', '2', '3']) expect(tail.append([record(long + end)])).toBe(true);
    rmSync(path(1));
    expect(found().map((text) => text.at(-1))).toEqual(['1', '3']);
    writeFileSync(path(1), readFileSync(path(0)));
    writeFileSync(path(0), readFileSync(path(2)));
    rmSync(path(2));
    expect(found().map((text) => text.at(-1))).toEqual(['1', '3']);
  });

  it('ends at the first message that is not whole', () => {
    expect(tail.append([record('a'), record('b'), record('c')])).toBe(true);
    const whole = readFileSync(path(0));
    const each = whole.length / 3;
    truncateSync(path(0), whole.length - 1);
    expect(found()).toEqual(['a', 'b']);
    truncateSync(path(0), each + headBytes - 1);
    expect(found()).toEqual(['a']);
    const damaged = Buffer.from(whole);
    damaged[2 * each - 1]! ^= 1;
    writeFileSync(path(0), damaged);
    expect(found()).toEqual(['a']);
    for (const length of [0, headBytes - 1, 2 ** 32 - 1]) {
      const lying = Buffer.from(whole);
      lying.writeUInt32LE(length, each);
      writeFileSync(path(0), lying);
      expect(found()).toEqual(['a']);
    }
    writeFileSync(path(0), whole.subarray(0, each));
    appendFileSync(path(0), Buffer.alloc(headBytes));
    expect(found()).toEqual(['a']);
  });

  it('takes an empty message', () => {
    expect(tail.append([record(''), record('a')])).toBe(true);
    expect(found()).toEqual(['', 'a']);
  });

  it('is gone when it is removed, and made again when it is needed', () => {
    expect(tail.append([record('a')])).toBe(true);
    tail.remove();
    expect([existsSync(folder), open()]).toEqual([false, 0]);
    expect(tail.append([record('b')])).toBe(true);
    expect(found()).toEqual(['b']);
    tail.remove();
    tail.remove();
    expect(existsSync(folder)).toBe(false);
  });

  it('is for nobody else to read', () => {
    expect(tail.append([record('a')])).toBe(true);
    expect([statSync(folder).mode & 0o777, statSync(path(0)).mode & 0o777]).toEqual([0o700, 0o600]);
  });
});

import { cpSync, mkdirSync, mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { KiB, newId, SystemClock } from '@rookery/core';
import { withFileSizeMax } from '@rookery/core/testing';
import { spaceAccount, type JetStreamAccount } from '../src/account.js';
import { SqliteAccountStore } from '../src/store/sqlite-account.store.js';
import { AccountSlot } from '../src/workers/account-slot.js';
import { runnerLimits, type RunnerOutput } from '../src/workers/runner.js';

const messages = 100;

describe('an account that is fenced on a full disk', () => {
  let folder: string;
  let account: JetStreamAccount;
  const problems: string[] = [];
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'rookery-slot-'));
    mkdirSync(join(folder, 'own'));
    account = spaceAccount({ root: 'space', id: newId() }, join(folder, 'own', 'conat.sqlite'));
    problems.length = 0;
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  function makeSlot(): AccountSlot {
    const none = (): void => undefined;
    const output: RunnerOutput = {
      send: none,
      listen: none,
      watch: none,
      unwatch: none,
      done: none,
      report: none,
      quarantined: none,
      problem: (_account, error) => void problems.push(error),
    };
    const options = { limits: runnerLimits, synchronous: 'full' } as const;
    const meter = { committed: none, refused: none };
    return new AccountSlot(1, account, output, new SystemClock(), options, meter);
  }

  function slotWithMessages(): AccountSlot {
    const slot = makeSlot();
    const config = JSON.stringify({ name: 's', subjects: ['s.>'] });
    const plain = { reply: '', headers: null };
    slot.mailbox.push({
      ...plain,
      kind: 'api',
      subject: 'STREAM.CREATE.s',
      payload: Buffer.from(config),
    });
    for (let n = 0; n < messages; n += 1) {
      const payload = Buffer.alloc(4 * KiB, n);
      slot.mailbox.push({ ...plain, kind: 'publish', stream: 's', subject: `s.${n}`, payload });
    }
    while (slot.work());
    return slot;
  }

  it.each([true, false])('is not left locked, and nothing is lost (open: %s)', (isOpen) => {
    let slot = slotWithMessages();
    if (!isOpen) {
      // As a process that was killed left it, and not looked into since.
      const left = join(folder, 'left');
      cpSync(join(folder, 'own'), left, { recursive: true });
      slot.close();
      account = { ...account, file: join(left, 'conat.sqlite') };
      slot = makeSlot();
    }
    expect(slot.isOpen).toBe(isOpen);
    expect(problems).toEqual([]);
    // What the log holds cannot be written back into the one file.
    withFileSizeMax(statSync(account.file).size + 4 * KiB, () => slot.fence());
    expect(problems).toHaveLength(1);
    expect(slot.state).toBe('fenced');
    const store = new SqliteAccountStore(account.file);
    expect(store.stream('s')?.state.messages).toBe(messages);
    store.close();
  });
});

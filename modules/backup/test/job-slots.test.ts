import { describe, expect, it } from '@jest/globals';
import { SystemClock } from '@rookery/core';
import { MemoryBackupJournal } from '@rookery/backup/testing';
import { JobRunner } from '../src/job-runner.js';
import { JobSlots } from '../src/job-slots.js';

const never = new AbortController().signal;

/** Lets all that can go on go on. */
const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

describe('slots of jobs', () => {
  it('let others in beside jobs that take long, as many as there are slots', async () => {
    const slots = new JobSlots(2);
    const begun: string[] = [];
    const take = async (name: string) => {
      const slot = await slots.take(never);
      begun.push(name);
      return slot;
    };
    const [a, b] = [await take('a'), await take('b')];
    const later = ['c', 'd', 'e'].map((name) => take(name));
    await settled();
    expect(begun).toEqual(['a', 'b']);
    a.handOn();
    a.handOn();
    b.handOn();
    await settled();
    expect(begun).toEqual(['a', 'b', 'c', 'd']);
    // Two have taken long already: now others wait.
    (await later[0])?.handOn();
    await settled();
    expect(begun).toHaveLength(4);
    a.release();
    await settled();
    expect(begun).toHaveLength(4);
    (await later[0])?.handOn();
    await settled();
    expect(begun).toEqual(['a', 'b', 'c', 'd', 'e']);
  });

  it('are given up by who waits no longer, and taken in turn', async () => {
    const slots = new JobSlots(1);
    const first = await slots.take(never);
    const gone = new AbortController();
    const waiting = slots.take(gone.signal);
    const second = slots.take(never);
    gone.abort(new Error('gone'));
    await expect(waiting).rejects.toThrow();
    first.release();
    (await second).release();
    (await slots.take(never)).release();
  });
});

describe('a job that takes too long', () => {
  it('is ended and says so, and the next one has its turn', async () => {
    const journal = new MemoryBackupJournal();
    const limits = { concurrencyMax: 1, jobMsMax: 20, slotMsMax: 3_600_000 };
    const jobs = new JobRunner(journal, new SystemClock(), limits);
    const fence = (projectId: string) => ({
      projectId,
      generation: 1,
      operationId: `of-${projectId}`,
      attempt: 1,
    });
    const context = { params: {}, caller: 'hub', signal: never, progress: () => undefined };
    const endless = jobs.run('backup', fence('slow'), context, ({ signal }) => {
      return new Promise((_resolve, reject) => {
        signal.addEventListener('abort', () => reject(new Error('ended')), { once: true });
      });
    });
    const next = jobs.run('backup', fence('next'), context, () => Promise.resolve({}));
    await expect(endless).rejects.toMatchObject({ code: 'BACKUP_TIMEOUT' });
    await next;
    expect(await journal.get('of-slow')).toMatchObject({ error: { code: 'BACKUP_TIMEOUT' } });
  });
});

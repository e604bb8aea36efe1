import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { RpcErrors } from '@rookery/rpc';
import { createLogger, newId, waitFor, type Clock } from '@rookery/core';
import { AccessStore, type AccessDifference } from '../src/access/access-store.js';
import { AccessSync, type OpenedBy } from '../src/access/access-sync.js';
import { openDatabase } from '../src/database/database.js';
import type { HostDatabase } from '../src/database/host-database.js';
import { FakeAccess } from './fake-access.js';

const [A, B, P, Q] = [newId(), newId(), newId(), newId()] as [string, string, string, string];
const offlineMs = 10_000;

/** Time that a test moves. */
class HandClock {
  nowMs = 1_000_000;
  now(): number {
    return this.nowMs;
  }
}

let folder: string;
let database: HostDatabase;
let clock: HandClock;
let hub: FakeAccess;
let news: AccessDifference[];
/** What is open; those that were told to end leave it. */
let opened: OpenedBy[];
let ended: OpenedBy[];
let book: AccessStore;
let sync: AccessSync;

async function open(): Promise<void> {
  book = new AccessStore(database, clock as unknown as Clock, offlineMs);
  await book.open();
  book.onChange((each) => news.push(each));
  sync = new AccessSync(book, clock as unknown as Clock, createLogger('test', 'silent'));
  sync.onRevoked((ends) => {
    ended.push(...opened.filter(ends));
    opened = opened.filter((each) => !ends(each));
  });
  sync.attachOpen(() => opened);
  const reports = {
    access: async ({ since, after }: { since?: number; after?: string }) =>
      hub.answer(since, after),
    credentials: async ({ credentialIds }: { credentialIds: string[] }) =>
      hub.credentials(credentialIds),
  };
  sync.attach(reports as never);
}

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'rookery-access-'));
  database = await openDatabase(join(folder, 'host.sqlite'));
  clock = new HandClock();
  hub = new FakeAccess();
  news = [];
  [opened, ended] = [[], []];
  await open();
});
afterEach(async () => {
  book.close();
  await database.close();
  await rm(folder, { recursive: true });
});

describe('what a host knows of rights', () => {
  it('is nothing before the hub has said anything', () => {
    expect(book.isCurrent).toBe(false);
    expect(book.projectsOf(A)).toEqual([]);
  });

  it('is all there is at first, in pages, then what has changed', async () => {
    hub.pageSize = 1;
    hub.set(A, [{ projectId: P, role: 'owner' }]);
    hub.set(B, [{ projectId: P, role: 'viewer' }]);
    await sync.learn(hub.revision);
    expect([book.projectsOf(A), book.projectsOf(B)]).toEqual([
      [{ projectId: P, role: 'owner' }],
      [{ projectId: P, role: 'viewer' }],
    ]);
    expect(news.splice(0)).toEqual(['all']);
    hub.pageSize = 100;
    hub.set(B, [
      { projectId: P, role: 'viewer' },
      { projectId: Q, role: 'editor' },
    ]);
    hub.set(A, []);
    await sync.pull();
    expect(book.projectsOf(A)).toEqual([]);
    expect(book.projectsOf(B)).toHaveLength(2);
    expect(news).toEqual([new Set([B, A])]);
    expect(book.revision).toBe(hub.revision);
    expect(ended).toEqual([]);
  });

  it('is asked for only when the hub has something newer', async () => {
    await sync.learn(hub.revision);
    hub.asked = [];
    await sync.learn(hub.revision);
    expect(hub.asked).toEqual([]);
    hub.set(A, [{ projectId: P, role: 'owner' }]);
    await sync.learn(hub.revision);
    expect(hub.asked).toEqual([hub.revision - 1]);
  });

  it('is asked for once more when something changes while it is asked for', async () => {
    await sync.learn(hub.revision);
    hub.asked = [];
    await Promise.all([sync.pull(), sync.pull(), sync.pull()]);
    expect(hub.asked).toHaveLength(2);
  });

  const byKey = (accountId: string) => ({ accountId, credentialId: newId() });

  it('is learned anew after a gap, and nobody is cut who lost nothing', async () => {
    const crowd = Array.from({ length: 30 }, () => newId());
    for (const each of [A, ...crowd]) hub.set(each, [{ projectId: P, role: 'owner' }]);
    await sync.learn(hub.revision);
    opened = crowd.map(byKey);
    const [key, gone, fresh] = [opened[0]!, opened[1]!, byKey(crowd[2]!)];
    const unknown = { accountId: crowd[3]! };
    opened.push(unknown);
    news = [];
    hub.set(A, []);
    hub.set(B, [{ projectId: Q, role: 'owner' }]);
    // The log says neither that this key is gone nor that rights were lost.
    hub.revoke(gone.accountId, gone.credentialId!);
    hub.revoke(fresh.accountId, fresh.credentialId);
    [hub.knownFrom, hub.pageSize] = [hub.revision, 10];
    hub.lately = [fresh];
    await sync.learn(hub.revision);
    expect([book.projectsOf(A).length, book.projectsOf(B).length]).toEqual([0, 1]);
    expect(news).toEqual([new Set([B, A])]);
    expect(ended).toEqual([gone, unknown]);
    expect(opened).toContain(key);
    expect(book.revision).toBe(hub.revision);
    // Tokens that were made with them before open nothing either.
    expect(sync.isRevoked(gone.credentialId!)).toBe(true);
    expect(sync.isRevoked(fresh.credentialId)).toBe(true);
    expect(sync.isRevoked(key.credentialId!)).toBe(false);
  });

  it('is learned anew once more when nobody could say which keys have ended', async () => {
    hub.set(A, [{ projectId: P, role: 'owner' }]);
    await sync.learn(hub.revision);
    const key = byKey(A);
    opened = [key];
    const since = book.revision;
    hub.revoke(A, key.credentialId);
    hub.set(B, [{ projectId: Q, role: 'owner' }]);
    hub.knownFrom = hub.revision;
    hub.onCredentials = () => {
      throw new Error('lost');
    };
    await expect(sync.learn(hub.revision)).rejects.toThrow('lost');
    expect(book.projectsOf(B)).toHaveLength(1);
    expect([book.revision, ended]).toEqual([since, []]);
    hub.onCredentials = () => undefined;
    await sync.learn(hub.revision);
    expect([book.revision, ended]).toEqual([hub.revision, [key]]);
  });

  it('is shown again by everybody after a gap when the hub is of an earlier release', async () => {
    hub.set(A, [{ projectId: P, role: 'owner' }]);
    await sync.learn(hub.revision);
    const key = byKey(A);
    opened = [key];
    hub.set(B, [{ projectId: Q, role: 'owner' }]);
    hub.knownFrom = hub.revision;
    hub.onCredentials = () => {
      throw RpcErrors.SERVICE_UNAVAILABLE({ subject: 'hosts.x.credentials' });
    };
    await sync.learn(hub.revision);
    expect([book.revision, ended]).toEqual([hub.revision, [key]]);
  });

  it('changes in pages, of which nobody is cut who loses nothing', async () => {
    const crowd = Array.from({ length: 25 }, () => newId()).sort();
    for (const each of [A, ...crowd]) hub.set(each, [{ projectId: P, role: 'editor' }]);
    await sync.learn(hub.revision);
    [news, hub.asked, hub.pageSize] = [[], [], 10];
    // Most changes change nothing here; two do, and one comes when its page has gone by.
    for (const each of crowd) hub.set(each, [{ projectId: P, role: 'editor' }]);
    const [first, , third] = crowd as [string, string, string];
    const last = crowd.at(-1)!;
    hub.set(third, []);
    hub.set(last, [{ projectId: P, role: 'viewer' }]);
    const since = book.revision;
    let pages = 0;
    hub.onPage = () => {
      pages += 1;
      if (pages === 2) hub.set(first, []);
    };
    await sync.pull();
    expect(hub.asked).toEqual([since, since, since]);
    expect(news).toEqual([new Set([third]), new Set([last])]);
    expect(ended).toEqual([]);
    expect(book.revision).toBe(hub.revision - 1);
    await sync.learn(hub.revision);
    expect(news.at(-1)).toEqual(new Set([first]));
    expect([A, first, third].map((each) => book.projectsOf(each).length)).toEqual([1, 0, 0]);
  });

  it('is asked for from the same revision when a page is lost', async () => {
    hub.set(A, [{ projectId: P, role: 'editor' }]);
    await sync.learn(hub.revision);
    const since = book.revision;
    const more = [newId(), newId(), newId()];
    for (const each of more) hub.set(each, [{ projectId: P, role: 'editor' }]);
    [hub.asked, hub.pageSize] = [[], 2];
    hub.onPage = () => {
      if (hub.asked.length === 2) throw new Error('lost');
    };
    await expect(sync.pull()).rejects.toThrow('lost');
    expect(book.revision).toBe(since);
    await sync.pull();
    expect(hub.asked).toEqual([since, since, since, since]);
    expect(more.map((each) => book.projectsOf(each).length)).toEqual([1, 1, 1]);
    expect(book.revision).toBe(hub.revision);
  });

  it('is still known after a restart', async () => {
    hub.set(A, [{ projectId: P, role: 'editor' }]);
    await sync.learn(hub.revision);
    book.close();
    await open();
    expect(book.revision).toBe(hub.revision);
    expect(book.projectsOf(A)).toEqual([{ projectId: P, role: 'editor' }]);
  });

  it('counts for nothing when the hub has been away too long, and again when it is back', async () => {
    hub.set(A, [{ projectId: P, role: 'editor' }]);
    await sync.learn(hub.revision);
    clock.nowMs += offlineMs - 1;
    expect(book.projectsOf(A)).toHaveLength(1);
    await sync.learn(hub.revision);
    clock.nowMs += offlineMs - 1;
    expect(book.isCurrent).toBe(true);
    clock.nowMs += 1;
    expect(book.isCurrent).toBe(false);
    expect(book.projectsOf(A)).toEqual([]);
    book.close();
    await open();
    expect(book.isCurrent).toBe(false);
    news = [];
    await sync.learn(hub.revision);
    expect(book.projectsOf(A)).toHaveLength(1);
    expect(news).toEqual(['all']);
  });

  it('tells that it expired, though its timer fires in the very last millisecond', async () => {
    await sync.learn(hub.revision);
    clock.nowMs += offlineMs - 2;
    book.close();
    await open();
    news = [];
    const expiresAtMs = clock.nowMs + 2;
    // The timer's own question is the last one before the time has come.
    let questions = 0;
    clock.now = () => (questions++ === 0 ? expiresAtMs - 1 : expiresAtMs);
    await waitFor('the news', () => news.length > 0, { timeoutMs: 2_000 });
    expect(news).toEqual(['all']);
  });

  it('remembers what was revoked as long as a token of it may live', async () => {
    await sync.learn(hub.revision);
    const [first, second] = [newId(), newId()] as [string, string];
    const [by, other] = [{ accountId: A, credentialId: first }, byKey(A)];
    const [unknown, another] = [{ accountId: A }, { accountId: B }];
    opened = [by, other, unknown, another];
    hub.revoke(A, first);
    await sync.pull();
    expect(ended).toEqual([by, unknown]);
    expect([sync.isRevoked(first), sync.isRevoked(second)]).toEqual([true, false]);
    clock.nowMs += 11 * 60_000;
    hub.revoke(B, second);
    await sync.pull();
    expect([sync.isRevoked(first), sync.isRevoked(second)]).toEqual([false, true]);
  });
});

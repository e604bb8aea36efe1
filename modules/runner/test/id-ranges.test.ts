import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { mkdtemp, readdir, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { IdClaims, newId } from '@rookery/core';
import { IdRanges } from '../src/podman/id-ranges.js';

const firstId = 2 ** 20;
const size = 65_536;
let folder: string;
beforeEach(async () => void (folder = await mkdtemp(join(tmpdir(), 'rookery-ranges-'))));
afterEach(() => rm(folder, { recursive: true, force: true }));

async function ranges(
  options: { count?: number; files?: Record<string, string>; host?: string; first?: number } = {},
) {
  const path = (name: string) => join(folder, name);
  for (const [name, text] of Object.entries(options.files ?? {})) await writeFile(path(name), text);
  const opened = new IdRanges({
    folder: path(options.host ?? 'taken'),
    count: options.count ?? 4,
    firstId: options.first ?? firstId,
    claimsDir: path('claims'),
    machineFiles: { subordinate: [path('subuid')], accounts: [path('passwd')] },
  });
  await opened.open();
  return opened;
}

describe('the ranges of ids', () => {
  it('stay with their project, also across a restart, until they are released', async () => {
    const [one, other] = [newId(), newId()];
    const before = await ranges();
    expect(await before.claim(one)).toEqual({ firstId });
    expect(await before.claim(other)).toEqual({ firstId: firstId + size });
    const after = await ranges();
    expect(await after.claim(other)).toEqual({ firstId: firstId + size });
    await after.release(one);
    expect(after.known()).toEqual([other]);
    expect(await after.claim(newId())).toEqual({ firstId });
  });

  it('are never two projects’ at once, whoever asks at the same time', async () => {
    const [one, two] = [await ranges({ count: 40 }), await ranges({ count: 40 })];
    const claims = Array.from({ length: 40 }, (_, n) => (n % 2 ? one : two).claim(newId()));
    const claimed = (await Promise.all(claims)).map((range) => range.firstId);
    expect(new Set(claimed).size).toBe(40);
  });

  it('leave out what accounts and other programs of the machine have', async () => {
    const files = {
      subuid: `someone:100000:65536\nother:${firstId}:10\n`,
      passwd: `root:x:0:0::/root:/bin/sh\nlate:x:${firstId + 2 * size - 1}:0::/:/bin/sh\n`,
    };
    const opened = await ranges({ files });
    expect(await opened.claim(newId())).toEqual({ firstId: firstId + 2 * size });
  });

  it('are never those of another host on the machine, until it gives them back or is gone', async () => {
    const [one, two] = [await ranges({ host: 'one' }), await ranges({ host: 'two' })];
    const project = newId();
    expect(await one.claim(project)).toEqual({ firstId });
    expect(await two.claim(newId())).toEqual({ firstId: firstId + size });
    // Not on the same border: one that begins inside another is refused as well.
    const shifted = await ranges({ host: 'three', first: firstId + size / 2 });
    expect(await shifted.claim(newId())).toEqual({ firstId: firstId + 2.5 * size });
    await one.release(project);
    expect(await two.claim(newId())).toEqual({ firstId });
    await rm(join(folder, 'two'), { recursive: true });
    expect(await one.claim(newId())).toEqual({ firstId });
    expect(await one.claim(newId())).toEqual({ firstId: firstId + size });
  });

  it('are taken anew by a host that comes back after another has taken them', async () => {
    const project = newId();
    await (await ranges({ host: 'one' })).claim(project);
    await rename(join(folder, 'one'), join(folder, 'away'));
    expect(await (await ranges({ host: 'two' })).claim(newId())).toEqual({ firstId });
    await rename(join(folder, 'away'), join(folder, 'one'));
    const back = await ranges({ host: 'one' });
    expect(back.known()).toEqual([]);
    expect(await back.claim(project)).toEqual({ firstId: firstId + size });
  });

  it('are given back when a folder with hosts in it is removed', async () => {
    await (await ranges({ host: 'cluster/one' })).claim(newId());
    await (await ranges({ host: 'cluster2' })).claim(newId());
    const claims = new IdClaims(join(folder, 'claims'));
    await claims.releaseWithin(join(folder, 'cluster'));
    const left = (await readdir(join(folder, 'claims'))).filter((name) => name !== 'lock');
    expect(left).toEqual([String(firstId + size)]);
  });

  it('run out with an error that says what to do', async () => {
    const opened = await ranges({ count: 1 });
    await opened.claim(newId());
    await expect(opened.claim(newId())).rejects.toMatchObject({ code: 'ID_RANGES_FULL' });
  });
});

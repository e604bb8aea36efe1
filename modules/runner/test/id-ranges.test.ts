import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { newId } from '@rookery/core';
import { IdRanges } from '../src/podman/id-ranges.js';

const firstId = 2 ** 20;
const size = 65_536;
let folder: string;
beforeEach(async () => void (folder = await mkdtemp(join(tmpdir(), 'rookery-ranges-'))));
afterEach(() => rm(folder, { recursive: true, force: true }));

async function ranges(options: { count?: number; files?: Record<string, string> } = {}) {
  const path = (name: string) => join(folder, name);
  for (const [name, text] of Object.entries(options.files ?? {})) await writeFile(path(name), text);
  const opened = new IdRanges({
    ...{ folder: path('taken'), firstId, count: options.count ?? 4 },
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

  it('run out with an error that says what to do', async () => {
    const opened = await ranges({ count: 1 });
    await opened.claim(newId());
    await expect(opened.claim(newId())).rejects.toMatchObject({ code: 'ID_RANGES_FULL' });
  });
});

import { createHash } from 'node:crypto';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { pipeline } from 'node:stream/promises';
import { describe, expect, it } from '@jest/globals';
import { newId } from '@rookery/core';
import {
  isProjectQgroup,
  planStorageRepairs,
  projectOfFolder,
  qgroupOf,
  SendStreamGuard,
  VolumeLayout,
  type StorageActual,
} from '@rookery/storage/testing';

const coded = (code: string): Error => expect.objectContaining({ code }) as unknown as Error;

describe('the layout', () => {
  const layout = new VolumeLayout('/v');
  const id = '3d1b7f6e-8a55-4a8b-9f0e-0d6f1a2b3c4d';

  it('derives a 48-bit qgroup from the id alone, and knows its own', () => {
    const hash = createHash('sha256').update(id).digest('hex').slice(0, 11);
    expect(qgroupOf(id)).toBe(`1/${Number.parseInt(`a${hash}`, 16)}`);
    for (let i = 0; i < 100; i += 1) {
      const group = qgroupOf(newId());
      expect(isProjectQgroup(group)).toBe(true);
      expect(Number(group.slice(2))).toBeLessThan(2 ** 48);
    }
    expect(isProjectQgroup('1/5')).toBe(false);
    expect(isProjectQgroup('0/256')).toBe(false);
  });

  it('makes no path from a name that was not checked', () => {
    expect(layout.live(id)).toBe(`/v/project-${id}`);
    expect(() => layout.live('../x')).toThrow(coded('INVALID_INPUT'));
    expect(() => layout.snapshot(id, '../../x')).toThrow(coded('INVALID_INPUT'));
    expect(() => layout.snapshot(id, '.hidden')).toThrow(coded('INVALID_INPUT'));
    expect(() => layout.frozen(id, 'move-/x')).toThrow(coded('INVALID_INPUT'));
    expect(() => layout.image('sha256:../../etc')).toThrow(coded('INVALID_INPUT'));
    expect(projectOfFolder(`project-${id}`)).toBe(id);
    expect(projectOfFolder(`project-${id.toUpperCase()}`)).toBeUndefined();
    expect(projectOfFolder('project-x')).toBeUndefined();
  });

  it('turns a digest into a folder and back', () => {
    const digest = `sha256:${'ab'.repeat(32)}`;
    expect(layout.image(digest)).toBe(`/v/images/sha256-${'ab'.repeat(32)}`);
    expect(layout.imageDigest(`sha256-${'ab'.repeat(32)}`)).toBe(digest);
    expect(layout.imageDigest('.staging-x')).toBeUndefined();
  });
});

describe('the guard of send streams', () => {
  const header = Buffer.from('btrfs-stream\0\x01\0\0\0', 'latin1');
  const command = (kind: number, data: Buffer = Buffer.alloc(0)): Buffer => {
    const head = Buffer.alloc(10);
    head.writeUInt32LE(data.length, 0);
    head.writeUInt16LE(kind, 4);
    return Buffer.concat([head, data]);
  };
  const subvolume = (name: string): Buffer => {
    const path = Buffer.from(name);
    const attribute = Buffer.alloc(4);
    attribute.writeUInt16LE(15, 0);
    attribute.writeUInt16LE(path.length, 2);
    return command(1, Buffer.concat([attribute, path]));
  };
  const write = command(15, Buffer.alloc(100_000, 1));
  const end = command(21);
  const whole = [header, subvolume('move-1'), write, end];

  const pass = async (parts: readonly Buffer[], chunkBytes: number): Promise<Buffer> => {
    const all = Buffer.concat(parts);
    const chunks: Buffer[] = [];
    for (let at = 0; at < all.length; at += chunkBytes) {
      chunks.push(all.subarray(at, at + chunkBytes));
    }
    const guard = new SendStreamGuard('delta.move-1');
    const [, bytes] = await Promise.all([pipeline(Readable.from(chunks), guard), buffer(guard)]);
    expect(guard.name).toBe('move-1');
    return bytes;
  };

  it.each([1, 7, 1000, 1_000_000])('passes a whole stream in pieces of %i bytes', async (size) => {
    const short = [header, subvolume('move-1'), command(15, Buffer.alloc(300, 1)), end];
    expect(await pass(size < 10 ? short : whole, size)).toEqual(
      Buffer.concat(size < 10 ? short : whole),
    );
  });

  it.each([
    ['no end', whole.slice(0, 3)],
    ['no subvolume', [header, write, end]],
    ['two subvolumes', [header, subvolume('a'), subvolume('b'), end]],
    ['a second stream', [...whole, ...whole]],
    ['a path for a name', [header, subvolume('../etc'), end]],
    ['a hidden name', [header, subvolume('.x'), end]],
    ['a name like that of what arrived', [header, subvolume('=snapshot.a'), end]],
    ['no name', [header, command(1), end]],
    ['a huge first command', [header, command(1, Buffer.alloc(9000)), end]],
    ['an unknown version', [Buffer.from('btrfs-stream\0\x09\0\0\0', 'latin1'), end]],
    ['something else', [Buffer.from('PK\x03\x04'.repeat(20))]],
  ])('refuses one with %s', async (_name, parts) => {
    await expect(pass(parts, 1000)).rejects.toEqual(coded('STREAM_INVALID'));
  });
});

describe('the plan of a reconcile', () => {
  const [a, b, c] = [newId(), newId(), newId()];
  const empty: StorageActual = {
    volumes: [],
    unfinished: [],
    restores: [],
    landings: [],
    frozen: [],
    stagedPaths: [],
    leftovers: [],
    stagedImages: [],
  };
  const want = { projects: [], moves: [], frozen: [], retired: [] };
  const clock = { now: 100_000, graceMs: 30_000 };
  const kinds = (desired: Partial<typeof want>, actual: Partial<StorageActual>): string[] =>
    planStorageRepairs({ ...want, ...desired }, { ...empty, ...actual }, clock)
      .map((action) => action.kind)
      .filter((kind) => kind !== 'drop-qgroups');
  const wanted = { projects: [{ projectId: a, quotaBytes: 5 }] } as never;
  const landing = { moveId: b, createdAt: 0, busy: false, halfReceived: false };

  it.each([
    ['nothing', {}, {}, []],
    ['a volume as it should be', wanted, { volumes: [{ projectId: a, limitBytes: 5 }] }, []],
    ['another limit', wanted, { volumes: [{ projectId: a, limitBytes: 6 }] }, ['set-quota']],
    ['no limit', wanted, { volumes: [{ projectId: a }] }, ['set-quota']],
    ['an unknown volume', {}, { volumes: [{ projectId: a }] }, ['report-unknown']],
    ['a retired one', { retired: [a] }, { volumes: [{ projectId: a }] }, ['delete-retired']],
    [
      'one that is retired and wanted',
      { ...(wanted as object), retired: [a] },
      { volumes: [{ projectId: a, limitBytes: 5 }] },
      [],
    ],
    [
      'one whose maker died before its place was taken',
      {},
      { unfinished: [{ projectId: c, state: 'creating', changedAt: 0 }] },
      ['delete-unfinished'],
    ],
    [
      'one whose maker died after',
      { projects: [{ projectId: c, quotaBytes: 5 }] },
      {
        unfinished: [{ projectId: c, state: 'creating', changedAt: 0 }],
        volumes: [{ projectId: c, limitBytes: 5 }],
      },
      [],
    ],
    [
      'one in the making',
      {},
      { unfinished: [{ projectId: c, state: 'creating', changedAt: 99_000 }] },
      [],
    ],
    ['an orphaned landing area', {}, { landings: [landing] }, ['drop-landing']],
    ['a young one', {}, { landings: [{ ...landing, createdAt: 99_000 }] }, []],
    ['one that receives', {}, { landings: [{ ...landing, busy: true }] }, []],
    ['a wanted one', { moves: [b] }, { landings: [landing] }, []],
    [
      'a wanted one with half a subvolume',
      { moves: [b] },
      { landings: [{ ...landing, halfReceived: true }] },
      ['drop-half-received'],
    ],
    [
      'pictures',
      { frozen: [{ projectId: a, name: 'move-1' }] },
      {
        frozen: [
          { projectId: a, name: 'move-1', createdAt: 0 },
          { projectId: a, name: 'move-2', createdAt: 0 },
          { projectId: a, name: 'move-3', createdAt: 99_999 },
        ],
      },
      ['drop-frozen'],
    ],
    [
      'staged paths',
      { stagedPaths: [{ projectId: a, name: '1' }] },
      {
        stagedPaths: [
          { projectId: a, name: '1', createdAt: 0, busy: false },
          { projectId: a, name: '2', createdAt: 0, busy: true },
          { projectId: a, name: '3', createdAt: 99_999, busy: false },
          { projectId: a, name: '4', createdAt: 0, busy: false },
        ],
      },
      ['drop-staged-path'],
    ],
    ['trash', {}, { leftovers: [{ path: '/v/x', createdAt: 0 }] }, ['drop-leftover']],
    ['staged images', {}, { stagedImages: ['.staging-1'] }, ['drop-staged-image']],
    ['an open restore', {}, { restores: [a] }, ['finish-restore']],
  ] as [string, object, object, string[]][])('for %s', (_name, desired, actual, expected) => {
    expect(kinds(desired, actual)).toEqual(expected);
  });
});

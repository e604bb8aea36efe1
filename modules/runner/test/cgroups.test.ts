import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { GiB, MiB, projectMemoryBytes } from '@rookery/core';
import { cgroupFolder, probeLimits } from '../src/podman/cgroups.js';
import { setMemorySlice } from '../src/podman/memory-slice.js';

it('says at once that no hierarchy is mounted', async () => {
  // As beneath a bare /sys/fs/cgroup, a folder cannot be made here, and the kernel says ENOENT.
  await expect(probeLimits('test', '/proc/self')).rejects.toMatchObject({
    code: 'CGROUPS_MISSING',
  });
});

describe('the folder of a cgroup', () => {
  const v1 = '5:memory:/host/a/libpod-1\n3:cpu,cpuacct:/host/a/libpod-1\n0::/\n';

  it('lies below the mount that holds its controller', () => {
    const mounts =
      '31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n' +
      '32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n' +
      '35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n';
    expect(cgroupFolder(v1, mounts, 'memory')).toBe('/sys/fs/cgroup/memory/host/a/libpod-1');
    expect(cgroupFolder(v1, mounts, 'cpuacct')).toBe('/sys/fs/cgroup/cpu,cpuacct/host/a/libpod-1');
  });

  it('is counted from the part of the hierarchy that is mounted', () => {
    const mounts = '35 31 0:32 /host /sys/fs/cgroup/memory rw shared:9 - cgroup cgroup rw,memory\n';
    expect(cgroupFolder(v1, mounts, 'memory')).toBe('/sys/fs/cgroup/memory/a/libpod-1');
    expect(cgroupFolder('5:memory:/host\n', mounts, 'memory')).toBe('/sys/fs/cgroup/memory');
  });

  it('is nowhere when another part is mounted, or none', () => {
    const mounts = '35 31 0:32 /other /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n';
    expect(cgroupFolder(v1, mounts, 'memory')).toBeNull();
    expect(cgroupFolder(v1, mounts, 'pids')).toBeNull();
  });

  it('is one for all controllers in version 2', () => {
    const mounts = '30 23 0:27 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n';
    expect(cgroupFolder('0::/rookery/p-1\n', mounts, '')).toBe('/sys/fs/cgroup/rookery/p-1');
  });
});

describe('the memory of all projects together', () => {
  it.each([
    ['a tenth is kept', undefined, 24 * GiB, 21.6 * GiB],
    ['of a large machine 4 GiB', undefined, 256 * GiB, 252 * GiB],
    ['of a small one enough for the host', undefined, 2 * GiB, 1.25 * GiB],
    ['of a tiny one half', undefined, GiB, 0.5 * GiB],
    ['or what was set', 300 * MiB, 8 * GiB, 8 * GiB - 300 * MiB],
  ])('is the machine’s but for a reserve: %s', (_what, reserveBytes, total, expected) => {
    expect(projectMemoryBytes(reserveBytes, total)).toBe(Math.floor(expected));
  });

  /** What the kernel would show there; it takes the same writes. */
  let root: string;
  beforeEach(async () => (root = await mkdtemp(join(tmpdir(), 'rookery-cgroup-'))));
  afterEach(() => rm(root, { recursive: true, force: true }));
  const text = (file: string) => readFile(join(root, file), 'utf8');

  it('is limited in version 2 at two marks, where the controller is', async () => {
    await writeFile(join(root, 'cgroup.controllers'), 'cpu memory pids\n');
    const slice = await setMemorySlice('rookery-1', 1000, root);
    expect(slice).toEqual({ kind: 'cgroup-v2', bytes: 1000 });
    expect(await text('cgroup.subtree_control')).toBe('+memory');
    expect(await text('rookery-1/memory.high')).toBe('950');
    expect(await text('rookery-1/memory.max')).toBe('1000');
  });

  it('is limited in version 1 by its parent', async () => {
    await mkdir(join(root, 'memory'));
    const slice = await setMemorySlice('rookery-1', 1000, root);
    expect(slice).toEqual({ kind: 'cgroup-v1', bytes: 1000 });
    expect(await text('memory/rookery-1/memory.limit_in_bytes')).toBe('1000');
  });

  it('is not limited where it cannot be, with the reason', async () => {
    expect(await setMemorySlice('rookery-1', 1000, root)).toEqual({
      kind: 'none',
      reason: 'cgroup v1 has no memory controller here',
    });
    await writeFile(join(root, 'cgroup.controllers'), 'cpu pids\n');
    await mkdir(join(root, 'cgroup.subtree_control'));
    expect(await setMemorySlice('rookery-1', 1000, root)).toEqual({
      kind: 'none',
      reason: 'cgroup v2 has no memory controller here',
    });
    await writeFile(join(root, 'cgroup.controllers'), 'memory\n');
    expect(await setMemorySlice('rookery-1', 1000, root)).toMatchObject({
      reason: expect.stringContaining('is not delegated to this host'),
    });
    expect(await setMemorySlice('rookery-1', 0, root)).toMatchObject({ kind: 'none' });
  });
});

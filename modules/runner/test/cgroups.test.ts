import { describe, expect, it } from '@jest/globals';
import { cgroupFolder, probeLimits } from '../src/podman/cgroups.js';

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

import {
  mkdir,
  readdir,
  readFile,
  readlink,
  rm,
  stat,
  symlink,
  writeFile,
  chown,
  chmod,
  cp,
} from 'node:fs/promises';
import { randomBytes } from 'node:crypto';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { MiB, newId, parseConfig, SystemExec, type ExecResult } from '@rookery/core';
import {
  BtrfsStorageDriver,
  containerIdCount,
  containerRootId,
  StorageOptions,
} from '@rookery/storage';
import type { VolumePaths } from '@rookery/storage/contract';
import { loopbackVolume, type TestVolume } from '@rookery/storage/testing';

/**
 * What a project's root can try, in a user namespace as the runner makes it but without the seccomp
 * profile: the layout has to hold by itself.
 */
const quotaBytes = 64 * MiB;
const exec = new SystemExec();
const coded = (code: string): unknown => expect.objectContaining({ code });

let volume: TestVolume;
let driver: BtrfsStorageDriver;

beforeAll(async () => {
  volume = await loopbackVolume();
  // Reachable by its path, as a volume under /var is.
  await chmod(dirname(volume.volume), 0o755);
  driver = new BtrfsStorageDriver(
    exec,
    parseConfig(StorageOptions, {
      volume: volume.volume,
      driver: 'btrfs',
      btrfsProgram: volume.btrfsProgram,
      reconcileGraceMs: 0,
    }),
  );
  await driver.open();
});
afterAll(() => volume?.destroy());

interface Project {
  readonly id: string;
  readonly paths: VolumePaths;
  /**
   * Runs a shell script as the container's root: `/mnt/home`, `/mnt/snapshots` (read-only),
   * `/mnt/root` (overlay over an image), `/mnt/live` (the whole live subvolume, which no container
   * gets), `$BTRFS`, `$VOLUME`.
   */
  readonly run: (script: string) => Promise<ExecResult>;
}

const mapped = { uid: containerRootId, gid: containerRootId };

async function makeProject(): Promise<Project> {
  const id = newId();
  const { paths } = await driver.createVolume(id, { quotaBytes });
  const image = join(volume.volume, 'images', 'test');
  const layers = join(paths.overlay, 'test');
  for (const path of [image, layers, join(layers, 'upper'), join(layers, 'work')]) {
    await mkdir(path, { recursive: true });
  }
  for (const path of [image, join(layers, 'upper')]) await chown(path, mapped.uid, mapped.gid);
  await writeFile(join(image, 'lower'), 'from the image');
  await chown(join(image, 'lower'), mapped.uid, mapped.gid);
  const suid = join(image, 'id');
  await cp('/usr/bin/id', suid);
  await chown(suid, mapped.uid, mapped.gid);
  await chmod(suid, 0o4755);
  const run = async (script: string): Promise<ExecResult> => {
    const result = await exec.run(
      ['unshare', '--mount', '--propagation', 'private', 'sh', '-ec', enter],
      {
        env: {
          HOME_DIR: paths.home,
          LIVE: paths.root,
          SNAPSHOTS: paths.snapshots,
          LAYERS: layers,
          IMAGE: image,
          BTRFS: volume.btrfsProgram,
          VOLUME: volume.volume,
          SCRIPT: script,
        },
        okExits: [...Array(256).keys()],
      },
    );
    // Whatever came of the script: it ran.
    expect(result.stdout).toMatch(/^inside\n/);
    return { ...result, stdout: result.stdout.slice('inside\n'.length) };
  };
  return { id, paths, run };
}

const enter = `
  mount -t tmpfs -o mode=755 none /mnt
  mkdir /mnt/home /mnt/snapshots /mnt/root /mnt/live
  mount --bind "$HOME_DIR" /mnt/home
  mount --bind "$SNAPSHOTS" /mnt/snapshots
  mount -o remount,bind,ro,nosuid,nodev /mnt/snapshots
  mount --bind "$LIVE" /mnt/live
  mount -t overlay -o "lowerdir=$IMAGE,upperdir=$LAYERS/upper,workdir=$LAYERS/work" none /mnt/root
  unshare --user sleep 100 &
  holder=$!
  trap 'kill $holder' EXIT TERM INT
  while [ "$(readlink /proc/$holder/ns/user)" = "$(readlink /proc/self/ns/user)" ]; do sleep 0.01; done
  echo 0 ${containerRootId} ${containerIdCount} > /proc/$holder/uid_map
  echo 0 ${containerRootId} ${containerIdCount} > /proc/$holder/gid_map
  nsenter --user --target $holder --setuid 0 --setgid 0 unshare --mount sh -c "echo inside; $SCRIPT"`;

const usedBytes = async (id: string): Promise<number> => (await driver.usage(id)).usedBytes;
const fill = (path: string, mebibytes = 100): string =>
  `dd if=/dev/urandom of=${path} bs=1M count=${mebibytes} conv=fsync status=none`;

describe('a project that tries to get past its quota', () => {
  const inside = [
    ['its home', fill('/mnt/home/big')],
    ['a nested subvolume', `$BTRFS subvolume create /mnt/home/n && ${fill('/mnt/home/n/big')}`],
    [
      'a subvolume nested in a nested one, and its snapshot',
      `$BTRFS subvolume create /mnt/home/n && $BTRFS subvolume create /mnt/home/n/m
       ${fill('/mnt/home/n/m/a', 20)}; $BTRFS subvolume snapshot /mnt/home/n/m /mnt/home/n/s
       ${fill('/mnt/home/n/s/a')}`,
    ],
    ['the overlay', fill('/mnt/root/big')],
    [
      'copies that share extents, then change',
      `${fill('/mnt/home/a', 30)}; cp --reflink=always /mnt/home/a /mnt/home/b
       cp --reflink=always /mnt/home/a /mnt/home/c
       ${fill('/mnt/home/b', 30).replace('conv=', 'conv=notrunc,')}
       ${fill('/mnt/home/c', 30).replace('conv=', 'conv=notrunc,')}`,
    ],
    [
      'files without checksums and without copy on write',
      `touch /mnt/home/nocow; chattr +C /mnt/home/nocow; ${fill('/mnt/home/nocow')}`,
    ],
    ['preallocation', 'fallocate -l 100M /mnt/home/big'],
    ['many small files', `seq 1 60000 | (cd /mnt/home && split -l1 -a4 && ${fill('big')})`],
  ] as const;

  it.each(inside)('is stopped in %s, and nobody else is', async (_name, script) => {
    const project = await makeProject();
    const other = await makeProject();
    const before = await usedBytes(other.id);
    const result = await project.run(script);
    expect(result.exit).not.toBe(0);
    expect(result.stderr).toMatch(/Disk quota exceeded|quota/i);
    expect(await usedBytes(project.id)).toBeLessThanOrEqual(quotaBytes);
    expect(await usedBytes(other.id)).toBe(before);
    expect((await other.run(fill('/mnt/home/fine', 8))).exit).toBe(0);
    // Full as it is, it can be pictured, restored to, shrunk and deleted.
    await using picture = await driver.freeze(project.id, 'backup-full');
    expect((await stat(join(picture.root, 'home'))).isDirectory()).toBe(true);
    await picture.release();
    await driver.deleteVolume(project.id);
    await driver.deleteVolume(other.id);
    expect(await driver.volume(project.id)).toBeUndefined();
  });

  it('pays for what only its snapshots hold, and gets room back by deleting one', async () => {
    const project = await makeProject();
    expect((await project.run(fill('/mnt/home/a', 40))).exit).toBe(0);
    await driver.createSnapshot(project.id, 's');
    expect((await project.run(`rm /mnt/home/a; ${fill('/mnt/home/b', 40)}`)).exit).not.toBe(0);
    expect(await usedBytes(project.id)).toBeGreaterThan(40 * MiB);
    await driver.deleteSnapshot(project.id, 's');
    await exec.run([volume.btrfsProgram, 'subvolume', 'sync', volume.volume]);
    expect((await project.run(`rm -f /mnt/home/b; ${fill('/mnt/home/c', 40)}`)).exit).toBe(0);
  });

  it('is stopped in scratch too', async () => {
    const { id, paths } = await makeProject();
    await expect(
      writeFile(join(paths.scratch, 'big'), randomBytes(quotaBytes + 8 * MiB)),
    ).rejects.toThrow(/-122|EDQUOT/);
    await driver.deleteVolume(id);
  });

  it('charges a clone to the clone alone, and lets each go without the other', async () => {
    const origin = await makeProject();
    await origin.run(fill('/mnt/home/a', 20));
    const before = await usedBytes(origin.id);
    const clone = newId();
    await driver.cloneVolume({ projectId: origin.id }, clone, { quotaBytes });
    expect(await usedBytes(clone)).toBeGreaterThanOrEqual(20 * MiB);
    expect(await usedBytes(origin.id)).toBe(before);
    await origin.run(`rm /mnt/home/a; sync -f /mnt/home; ${fill('/mnt/home/b', 1)}`);
    expect(await usedBytes(origin.id)).toBeLessThan(3 * MiB);
    expect(await usedBytes(clone)).toBeGreaterThanOrEqual(20 * MiB);
    await driver.deleteVolume(origin.id);
    const { paths } = (await driver.volume(clone)) ?? {};
    expect((await stat(join(paths?.home ?? '', 'a'))).size).toBe(20 * MiB);
  });

  it('cannot hide bytes in a clone that does not fit', async () => {
    const origin = await makeProject();
    await origin.run(fill('/mnt/home/a', 40));
    const clone = newId();
    await expect(
      driver.cloneVolume({ projectId: origin.id }, clone, { quotaBytes: 16 * MiB }),
    ).rejects.toEqual(coded('QUOTA_EXCEEDED'));
    expect(await driver.volume(clone)).toBeUndefined();
    expect(await driver.listTemporarySnapshots(origin.id)).toEqual([]);
  });
});

describe('a project that tries to get out of its layout', () => {
  it.each([
    ['write into a snapshot', 'touch /mnt/snapshots/s/home/x'],
    ['make a snapshot writable', '$BTRFS property set -f /mnt/snapshots/s ro false'],
    [
      'make a snapshot writable by the live path',
      '$BTRFS property set -f /mnt/live/.snapshots/s ro false',
    ],
    ['remount its snapshots', 'mount -o remount,bind,rw /mnt/snapshots && touch /mnt/snapshots/x'],
    ['delete a snapshot', '$BTRFS subvolume delete /mnt/live/.snapshots/s'],
    ['remove a snapshot as a folder', 'rmdir /mnt/live/.snapshots/s'],
    ['rename .snapshots', 'mv /mnt/live/.snapshots /mnt/live/mine'],
    ['rename a snapshot', 'mv /mnt/live/.snapshots/s /mnt/live/.snapshots/t'],
    ['put something into .snapshots', 'mkdir /mnt/live/.snapshots/fake'],
    ['replace its home', 'mv /mnt/live/home /mnt/live/gone'],
    ['put something beside its home', 'touch /mnt/live/x'],
    ['put something beside the overlay', 'mkdir /mnt/live/.local/share/overlay/other'],
    ['make its live volume read-only', '$BTRFS property set /mnt/live ro true'],
    ['snapshot its live volume', '$BTRFS subvolume snapshot /mnt/live /mnt/home/copy'],
    ['link a snapshot’s file', 'ln /mnt/snapshots/s/home/kept /mnt/home/linked'],
    ['make a file that nobody can delete', 'touch /mnt/home/f; chattr +i /mnt/home/f'],
    ['make a device', 'mknod /mnt/home/disk b 7 0'],
    ['see the volume', 'ls "$VOLUME"'],
    ['see another’s persistence', 'ls "$VOLUME/sync/projects"'],
    ['raise its quota', '$BTRFS qgroup limit none /mnt/home'],
    ['turn quotas off', '$BTRFS quota disable /mnt/home'],
    ['receive a stream', '$BTRFS receive /mnt/home < /dev/null'],
    ['search the trees', '$BTRFS subvolume list /mnt/home'],
  ])('cannot %s', async (_name, script) => {
    const project = await makeProject();
    await writeFile(join(project.paths.home, 'kept'), 'kept');
    const snapshot = await driver.createSnapshot(project.id, 's');
    const result = await project.run(script);
    expect(result.exit).not.toBe(0);
    // Not for want of a tool or a path.
    expect(result.stderr).not.toMatch(/not found$/m);
    expect(await driver.listSnapshots(project.id)).toEqual([snapshot]);
    const kept = join(project.paths.snapshots, 's', 'home', 'kept');
    expect(await readFile(kept, 'utf8')).toBe('kept');
    await driver.deleteVolume(project.id);
  });

  it('cannot run a set-user-id file of the host on the volume, nor open a device there', async () => {
    const mounts = await readFile('/proc/self/mountinfo', 'utf8');
    const mine = mounts.split('\n').find((line) => line.includes(` ${volume.volume} `));
    expect(mine).toMatch(/nosuid,nodev/);
  });

  it('has set-user-id programs and deletions that last in its own root', async () => {
    const project = await makeProject();
    // The overlay is a mount of its own: nosuid and nodev of its layers do not reach it.
    const asUser = 'setpriv --reuid 1000 --regid 1000 --clear-groups /mnt/root/id -u';
    const result = await project.run(`${asUser}; rm /mnt/root/lower`);
    expect([result.stdout.trim(), result.exit]).toEqual(['0', 0]);
    // A whiteout is a device that the overlay reads, not opens.
    const again = await project.run('ls /mnt/root');
    expect(again.stdout).not.toContain('lower');
    const whiteout = await stat(join(project.paths.overlay, 'test', 'upper', 'lower'));
    expect(whiteout.isCharacterDevice()).toBe(true);
  });

  it('does not lead root by links when one path is restored', async () => {
    const project = await makeProject();
    const { home } = project.paths;
    await project.run(
      'cd /mnt/home && mkdir dir && printf old > dir/a && ln -s /etc/hostname link',
    );
    await driver.createSnapshot(project.id, 's');
    const outside = join(volume.volume, '_outside');
    await mkdir(outside);
    await writeFile(join(outside, 'a'), 'untouched');

    await project.run(`rm -r /mnt/home/dir; ln -s ${outside} /mnt/home/dir`);
    await expect(driver.restoreSnapshotPath(project.id, 's', 'dir/a')).rejects.toEqual(
      coded('PATH_OUTSIDE'),
    );
    expect(await readFile(join(outside, 'a'), 'utf8')).toBe('untouched');
    await expect(driver.restoreSnapshotPath(project.id, 's', 'link/x')).rejects.toThrow();

    // The link itself is replaced, what it points to is not.
    await driver.restoreSnapshotPath(project.id, 's', 'dir');
    expect(await readFile(join(home, 'dir', 'a'), 'utf8')).toBe('old');
    expect(await readFile(join(outside, 'a'), 'utf8')).toBe('untouched');
    await project.run('rm /mnt/home/link; echo mine > /mnt/home/link');
    await driver.restoreSnapshotPath(project.id, 's', 'link');
    expect(await readlink(join(home, 'link'))).toBe('/etc/hostname');
  });

  it('does not lead root by links while it is restored and changes them all the time', async () => {
    const project = await makeProject();
    const outside = join(volume.volume, '_race');
    await mkdir(outside);
    await project.run('mkdir /mnt/home/d && echo from the snapshot > /mnt/home/d/planted');
    await driver.createSnapshot(project.id, 's');
    const racing = project.run(`cd /mnt/home; for i in $(seq 1 200); do
      mv d e 2>/dev/null; ln -sT ${outside} d 2>/dev/null; rm -f d; mv e d 2>/dev/null; done`);
    let raced = false;
    void racing.finally(() => (raced = true));
    let restored = 0;
    while (!raced) {
      const done = driver.restoreSnapshotPath(project.id, 's', 'd/planted');
      restored += await done.then(
        () => 1,
        () => 0,
      );
    }
    expect(restored).toBeGreaterThan(0);
    await expect(stat(join(outside, 'planted'))).rejects.toThrow('ENOENT');
  });

  it('does not lead root by links when its root filesystem is begun anew', async () => {
    const project = await makeProject();
    const outside = join(volume.volume, '_elsewhere');
    await mkdir(join(outside, 'upper'), { recursive: true });
    await writeFile(join(outside, 'upper', 'a'), 'untouched');
    await project.run(`ln -s ${outside} /mnt/root/out; mkfifo /mnt/root/pipe; mkdir /mnt/root/d
      ln -s ${outside} /mnt/root/d/out`);
    await driver.resetLayer(project.id, 'test', { keepAs: 'kept' });
    // Of a stream, not of a project: a link where the layer itself should be.
    await symlink(outside, join(project.paths.overlay, 'link'));
    await driver.resetLayer(project.id, 'link');
    expect(await readdir(project.paths.overlay)).toEqual([]);
    await rm(project.paths.overlay, { recursive: true });
    await symlink(outside, project.paths.overlay);
    await expect(driver.resetLayer(project.id, 'upper')).rejects.toThrow();
    expect(await readFile(join(outside, 'upper', 'a'), 'utf8')).toBe('untouched');
  });

  it('is deleted with subvolumes nested under names that break lines', async () => {
    const project = await makeProject();
    const result = await project.run(`
      cd /mnt/home
      n=$(printf 'a\\nID 5 gen 1 top level 5 path x'); $BTRFS subvolume create "$n"
      $BTRFS subvolume create "$n/b"; $BTRFS subvolume create "$n/b/-c"
      mkdir "$n/b/d"; $BTRFS subvolume create "$n/b/d/e"; $BTRFS property set "$n/b/d/e" ro true`);
    expect(result.exit).toBe(0);
    await driver.deleteVolume(project.id);
    expect(await driver.volume(project.id)).toBeUndefined();
    const { stdout } = await exec.run([volume.btrfsProgram, 'subvolume', 'list', volume.volume]);
    expect(stdout).not.toContain(project.id);
    expect(stdout).not.toContain('_staging');
  });
});

import { mkdir, open, rename, rm, stat, statfs, truncate } from 'node:fs/promises';
import { dirname, isAbsolute, join } from 'node:path';
import { formatBytes, Reverter, type Exec } from '@rookery/core';
import { exists } from './files.js';
import { mountAt } from './btrfs/volume-mount.js';
import { StorageErrors } from './storage.errors.js';

export interface LoopbackOptions {
  readonly imageFile: string;
  readonly sizeBytes: number;
  /** Where it is mounted. */
  readonly volume: string;
  readonly btrfsProgram: string;
  /** Whether a file that is missing is made; it is unless this says no. */
  readonly create?: boolean;
}

const mkfsTimeoutMs = 5 * 60_000;

/**
 * A btrfs volume in a sparse file, for machines without a disk for it. Everything can be repeated:
 * after a reboot or a SIGKILL the file, loop device and mount that are there are taken as they are.
 */
export class LoopbackVolume {
  constructor(
    private readonly exec: Exec,
    private readonly options: LoopbackOptions,
  ) {}

  /** Makes the file if it is missing, grows it if it is smaller than asked, and mounts it. */
  async open(): Promise<void> {
    const { imageFile, sizeBytes, volume } = this.options;
    if (!(await exists(imageFile))) {
      if (this.options.create === false) {
        throw StorageErrors.VOLUME_ABSENT({ reason: `there is no file ${imageFile}` });
      }
      await this.create();
    }
    await mkdir(volume, { recursive: true });
    if (!(await this.isMounted())) await this.mount();
    if ((await stat(imageFile)).size < sizeBytes) await this.growTo(sizeBytes);
  }

  /** A crash half way leaves only a file with another name, which the next try overwrites. */
  private async create(): Promise<void> {
    const { imageFile, sizeBytes } = this.options;
    const folder = dirname(imageFile);
    await mkdir(folder, { recursive: true });
    await this.requireRoom(folder, sizeBytes);
    await using revert = new Reverter();
    const fresh = `${imageFile}.new`;
    revert.add(() => rm(fresh, { force: true }));
    await rm(fresh, { force: true });
    const file = await open(fresh, 'w', 0o600);
    try {
      await file.truncate(sizeBytes);
    } finally {
      await file.close();
    }
    await this.exec.run([await this.mkfsProgram(), '-q', fresh], { timeoutMs: mkfsTimeoutMs });
    await rename(fresh, imageFile);
    revert.success();
  }

  private async mount(): Promise<void> {
    const { imageFile, volume } = this.options;
    const device = (await this.loopDevices())[0];
    const options = ['nosuid', 'nodev', 'noatime', ...(device ? [] : ['loop'])].join(',');
    // With `loop` the kernel detaches the device when it is unmounted, however that comes about.
    await this.exec.run(['mount', '-t', 'btrfs', '-o', options, device ?? imageFile, volume]);
  }

  async growTo(sizeBytes: number): Promise<void> {
    const { imageFile, volume, btrfsProgram } = this.options;
    const { size } = await stat(imageFile);
    if (sizeBytes > size) {
      await this.requireRoom(dirname(imageFile), sizeBytes - size);
      await truncate(imageFile, sizeBytes);
    }
    for (const device of await this.loopDevices()) await this.exec.run(['losetup', '-c', device]);
    await this.exec.run([btrfsProgram, 'filesystem', 'resize', 'max', volume]);
  }

  async unmount(): Promise<void> {
    while (await mountAt(this.options.volume)) await this.exec.run(['umount', this.options.volume]);
    // A device that was attached by hand has no owner that would detach it.
    for (const device of await this.loopDevices()) {
      await this.exec.run(['losetup', '-d', device]);
    }
  }

  /** Unmounts, detaches and deletes the file: all projects are gone. */
  async destroy(): Promise<void> {
    await this.unmount();
    await rm(this.options.imageFile, { force: true });
  }

  /** @throws VOLUME_UNUSABLE when something else is mounted there */
  private async isMounted(): Promise<boolean> {
    const mount = await mountAt(this.options.volume);
    if (!mount) return false;
    if (mount.fsType === 'btrfs' && (await this.loopDevices()).includes(mount.source)) return true;
    throw StorageErrors.VOLUME_UNUSABLE({
      volume: this.options.volume,
      reason: `${mount.source} is mounted there`,
    });
  }

  /** Devices that show this file now. */
  private async loopDevices(): Promise<string[]> {
    const { stdout } = await this.exec.run([
      'losetup',
      '-n',
      '-O',
      'NAME',
      '-j',
      this.options.imageFile,
    ]);
    return stdout
      .split('\n')
      .map((line) => line.trim())
      .filter((line) => line !== '');
  }

  /** The file is sparse, but one that outgrows its disk later loses writes: ask now. */
  private async requireRoom(folder: string, bytes: number): Promise<void> {
    const { bavail, bsize } = await statfs(folder);
    const free = bavail * bsize;
    if (free >= bytes) return;
    throw StorageErrors.VOLUME_NO_ROOM({
      folder,
      wanted: formatBytes(bytes),
      free: formatBytes(free),
    });
  }

  /** The one that came with the btrfs program, if that has a folder of its own. */
  private async mkfsProgram(): Promise<string> {
    const { btrfsProgram } = this.options;
    if (!isAbsolute(btrfsProgram)) return 'mkfs.btrfs';
    const folder = dirname(btrfsProgram);
    for (const path of [join(folder, 'mkfs.btrfs'), join(folder, '../sbin/mkfs.btrfs')]) {
      if (await exists(path)) return path;
    }
    return 'mkfs.btrfs';
  }
}

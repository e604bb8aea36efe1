import { mkdir, mkdtemp, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { MiB, Reverter, SystemExec } from '@rookery/core';
import { findBtrfsProgram, loopbackVolume, type TestVolume } from './loopback.js';

const innerBytes = 384 * MiB;

/**
 * A btrfs volume whose disk is a file on another btrfs. A reflink copy of that file, taken while
 * the volume is in use, is what the disk would hold if the power went at that moment: what the
 * kernel still had in memory is not in it.
 */
export class CutVolume {
  private readonly exec = new SystemExec();
  private cuts = 0;
  /** What is mounted now. */
  private disk: string;

  private constructor(
    private readonly outer: TestVolume,
    private readonly folder: string,
    private readonly btrfs: string,
  ) {
    this.disk = join(outer.volume, 'disk.img');
  }

  static async make(): Promise<CutVolume> {
    await using undo = new Reverter();
    const outer = await loopbackVolume();
    undo.add(() => outer.destroy());
    const folder = await mkdtemp(join(tmpdir(), 'rookery-cut-'));
    undo.add(() => rm(folder, { recursive: true, force: true }));
    const volume = new CutVolume(outer, folder, await findBtrfsProgram());
    await writeFile(volume.disk, '');
    await truncate(volume.disk, innerBytes);
    await volume.run('mkfs.btrfs', '-q', volume.disk);
    await mkdir(volume.path);
    await volume.mount(volume.disk);
    undo.success();
    return volume;
  }

  /** Where the volume, or a cut of it, is mounted. */
  get path(): string {
    return join(this.folder, 'volume');
  }

  /** What the disk holds now. @returns a file for {@link mount} */
  async cut(): Promise<string> {
    this.cuts += 1;
    const copy = join(this.outer.volume, `cut-${this.cuts}.img`);
    await this.run('cp', '--reflink=always', this.disk, copy);
    return copy;
  }

  async makeSubvolume(name: string): Promise<string> {
    const path = join(this.path, name);
    await this.run(this.btrfs, 'subvolume', 'create', path);
    return path;
  }

  async snapshot(name: string, of: string): Promise<string> {
    const path = join(this.path, name);
    await this.run(this.btrfs, 'subvolume', 'snapshot', join(this.path, of), path);
    return path;
  }

  /** The disk and its cuts say that they are the same file system: only one at a time. */
  async mount(disk: string): Promise<void> {
    await this.run('mount', '-t', 'btrfs', '-o', 'loop', disk, this.path);
    this.disk = disk;
  }

  async unmount(): Promise<void> {
    await this.run('umount', this.path);
  }

  async destroy(): Promise<void> {
    await this.exec.run(['umount', this.path], { okExits: [0, 1, 32] });
    await this.outer.destroy();
    await rm(this.folder, { recursive: true, force: true });
  }

  private async run(...argv: string[]): Promise<void> {
    await this.exec.run(argv);
  }
}

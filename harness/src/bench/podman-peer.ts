import { chmod, mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Reverter, SystemExec } from '@rookery/core';

const exec = new SystemExec();

/** Bare podman on the same image, user namespace, runtime and disk as a project of a host. */
export class PodmanPeer implements AsyncDisposable {
  private readonly undo = new Reverter();
  private podman: string[] = [];
  private env: Record<string, string> = {};
  private folder = '';
  private image = '';
  private count = 0;

  /** @param volume a host's btrfs volume with one cached image. */
  static async on(volume: string): Promise<PodmanPeer> {
    const peer = new PodmanPeer();
    const [image] = await readdir(join(volume, 'images'));
    if (!image) throw new Error(`no image is cached in ${volume}`);
    peer.image = join(volume, 'images', image, 'rootfs');
    peer.folder = await mkdtemp(join(volume, 'scratch', 'peer-'));
    peer.undo.add(() => rm(peer.folder, { recursive: true, force: true }));
    // The container's root walks through it.
    await chmod(peer.folder, 0o711);
    const conf = join(peer.folder, 'containers.conf');
    await writeFile(
      conf,
      '[containers]\ndefault_ulimits = ["nofile=16384:16384", "nproc=32768:32768"]\n[engine]\nruntime = "runc"\n',
    );
    peer.env = { CONTAINERS_CONF: conf, PODMAN_IGNORE_CGROUPSV1_WARNING: '1' };
    // podman takes no longer path than 50 characters for it.
    const runRoot = `/run/rookery-peer-${process.pid}`;
    peer.undo.add(() => rm(runRoot, { recursive: true, force: true }));
    peer.podman = ['podman', '--root', join(peer.folder, 'root'), '--runroot', runRoot];
    peer.podman.push('--cgroup-manager', 'cgroupfs', '--events-backend', 'none');
    return peer;
  }

  /** Makes the overlay that `run` starts from: what is not timed for the peer. */
  async prepare(): Promise<string> {
    this.count += 1;
    const base = join(this.folder, `c${this.count}`);
    const part = (name: string): string => join(base, name);
    for (const name of ['upper', 'work', 'merged']) await mkdir(part(name), { recursive: true });
    await exec.run(['chown', '100000:100000', part('upper')]);
    const options = `lowerdir=${this.image},upperdir=${part('upper')},workdir=${part('work')}`;
    await exec.run(['mount', '-t', 'overlay', 'overlay', '-o', options, part('merged')]);
    this.undo.add(() => exec.run(['umount', part('merged')]));
    return part('merged');
  }

  async run(merged: string, command: readonly string[]): Promise<string> {
    const name = `peer-${process.pid}-${this.count}`;
    this.undo.add(() => this.call(['rm', '-f', '-t', '0', name]));
    await this.call([
      'run',
      '-d',
      '--name',
      name,
      '--init=false',
      '--network',
      'host',
      '--uidmap',
      '0:100000:65536',
      '--gidmap',
      '0:100000:65536',
      '--rootfs',
      merged,
      ...command,
    ]);
    return name;
  }

  async call(args: readonly string[]): Promise<string> {
    return (await exec.run([...this.podman, ...args], { env: this.env })).stdout;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.undo.fail();
  }
}

import { mkdir, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { CodedError, CoreErrors } from '@rookery/core';
import type { Exec, ExecOptions, ExecResult, SpawnedProcess, SpawnOptions } from '@rookery/core';
import type { ContainerSpec } from '../container.driver.js';

export interface PodmanPaths {
  /** podman's own storage; survives a reboot. */
  readonly stateDir: string;
  /** Mounts, pids, locks; on tmpfs. */
  readonly runDir: string;
}

/** podman's usual default, which its package names in a file that our own replaces. */
const capabilities = [
  'CHOWN',
  'DAC_OVERRIDE',
  'FOWNER',
  'FSETID',
  'KILL',
  'NET_BIND_SERVICE',
  'SETFCAP',
  'SETGID',
  'SETPCAP',
  'SETUID',
  'SYS_CHROOT',
];

/** Runs podman on this host's own storage root, with this host's own configuration. */
export class PodmanCli {
  private readonly configPath: string;
  private readonly imageTmpDir: string;
  private readonly containerTmpDir: string;

  constructor(
    private readonly exec: Exec,
    private readonly paths: PodmanPaths,
    private readonly runtime: string,
  ) {
    this.configPath = join(paths.stateDir, 'containers.conf');
    this.imageTmpDir = join(paths.stateDir, 'image-tmp');
    this.containerTmpDir = join(paths.runDir, 'tmp');
  }

  async prepare(): Promise<void> {
    await mkdir(this.imageTmpDir, { recursive: true, mode: 0o700 });
    await mkdir(this.containerTmpDir, { recursive: true, mode: 0o700 });
    await writeFile(this.configPath, containersConf);
  }

  async run(args: readonly string[], options: ExecOptions = {}): Promise<ExecResult> {
    try {
      return await this.exec.run(this.argv(args), this.options(args, options));
    } catch (error) {
      if (!CodedError.is(error, 'COMMAND_FAILED')) throw error;
      // The verb tells more than this host's flags.
      const command = `podman ${args[0] ?? ''}`;
      const { exit, stderr } = error.details;
      throw CoreErrors.COMMAND_FAILED(
        { ...error.details, command, exit: exit ?? '', stderr: stderr ?? '' },
        { cause: error.cause },
      );
    }
  }

  /** Runs a container: in one step, or in three where somebody wants to come between. */
  async runContainer(
    args: readonly string[],
    {
      name,
      beforeRun,
      ...options
    }: ExecOptions & { name: string; beforeRun: ContainerSpec['beforeRun'] },
  ): Promise<void> {
    if (!beforeRun) {
      await this.run(['run', '--detach', '--passwd=false', ...args], options);
      return;
    }
    // Knows no --passwd before 5.0, and adds none for a root that nobody named.
    await this.run(['create', ...args], options);
    await this.run(['init', name], options);
    await beforeRun();
    await this.run(['start', name], options);
  }

  spawn(args: readonly string[], options: SpawnOptions = {}): SpawnedProcess {
    return this.exec.spawn(this.argv(args), this.options(args, options));
  }

  private options<O extends ExecOptions | SpawnOptions>(args: readonly string[], options: O): O {
    return { cwd: this.paths.stateDir, ...options, env: this.env(args, options.env) };
  }

  /** Bytes of the layers that a pull under way has fetched. */
  imageTmpBytes(): Promise<number> {
    return bytesBeneath(this.imageTmpDir);
  }

  async clearImageTmp(): Promise<void> {
    await rm(this.imageTmpDir, { recursive: true, force: true });
    await mkdir(this.imageTmpDir, { recursive: true, mode: 0o700 });
  }

  private argv(args: readonly string[]): string[] {
    const { stateDir, runDir } = this.paths;
    return [
      'podman',
      '--root',
      join(stateDir, 'podman'),
      '--runroot',
      join(runDir, 'podman'),
      '--tmpdir',
      join(runDir, 'libpod'),
      '--storage-driver',
      'overlay',
      '--cgroup-manager',
      'cgroupfs',
      '--runtime',
      this.runtime,
      ...args,
    ];
  }

  /** Images are fetched to disk, not to a tmpfs. */
  private env(
    [verb]: readonly string[],
    more: Readonly<Record<string, string>> | undefined,
  ): Record<string, string> {
    return {
      CONTAINERS_CONF: this.configPath,
      PODMAN_IGNORE_CGROUPSV1_WARNING: '1',
      TMPDIR: isContainerVerb(verb) ? this.containerTmpDir : this.imageTmpDir,
      ...more,
    };
  }
}

const isContainerVerb = (verb = ''): boolean => ['run', 'create', 'init', 'start'].includes(verb);

// Limits that need CAP_SYS_RESOURCE would keep podman from starting anything on machines without
// it. Lock files of its own: the default shared-memory segment is one for the whole machine, and
// the first podman command after a host's start frees the locks of every other host in it.
const containersConf = `[containers]
default_ulimits = ["nofile=16384:16384", "nproc=32768:32768"]
default_capabilities = [${capabilities.map((name) => `"${name}"`).join(', ')}]
default_sysctls = []
log_driver = "k8s-file"

[engine]
cgroup_manager = "cgroupfs"
events_logger = "none"
lock_type = "file"
`;

/** Bytes of all files beneath a folder. */
async function bytesBeneath(folder: string): Promise<number> {
  const entries = await readdir(folder, { withFileTypes: true, recursive: true }).catch(() => []);
  const sizes = await Promise.all(
    entries
      .filter((entry) => entry.isFile())
      .map((entry) =>
        stat(join(entry.parentPath, entry.name)).then(
          ({ size }) => size,
          () => 0,
        ),
      ),
  );
  return sizes.reduce((sum, size) => sum + size, 0);
}

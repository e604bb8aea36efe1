import { access, chmod, mkdir, readdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { ProjectId } from '@rookery/core/contract';
import type { PodmanDriverOptions } from '../runner.options.js';
import type { ContainerFiles } from './container-args.js';

type Folders = Required<Pick<PodmanDriverOptions, 'stateDir' | 'runDir' | 'rootDir' | 'toolsDir'>>;

interface Surroundings {
  readonly resolvers: readonly string[];
  readonly gateway: string;
}

const logSuffix = '.log';

/** Where the files of each project's container lie; only the host's root gets that far. */
export class ContainerFolders {
  constructor(private readonly folders: Folders) {}

  async open(): Promise<void> {
    const { stateDir, runDir, rootDir } = this.folders;
    for (const path of [stateDir, this.logs, runDir, this.projects]) {
      await closedFolder(path);
    }
    await mkdir(rootDir, { recursive: true, mode: 0o755 });
  }

  /** Projects that have a folder here, whatever is left in it. */
  async known(): Promise<ProjectId[]> {
    return readdir(this.projects).catch(() => []);
  }

  files(id: ProjectId): ContainerFiles {
    const folder = this.project(id);
    return {
      startFolder: folder,
      rootDir: this.folders.rootDir,
      pidFile: join(folder, 'pid'),
      idFile: join(folder, 'id'),
      logFile: this.log(id),
      resolvConf: join(folder, 'resolv.conf'),
      hosts: join(folder, 'hosts'),
      hostname: join(folder, 'hostname'),
      containerEnv: join(folder, 'containerenv'),
      seccomp: this.seccomp,
      toolsDir: this.folders.toolsDir,
    };
  }

  project(id: ProjectId): string {
    return join(this.projects, id);
  }

  sessions(id: ProjectId): string {
    return join(this.project(id), 'exec');
  }

  /** For the time of a start: parts of the volume with the owners that the container knows. */
  mounts(id: ProjectId): string {
    return join(this.project(id), 'mounts');
  }

  log(id: ProjectId): string {
    return join(this.logs, `${id}${logSuffix}`);
  }

  /** Projects of which a log is kept; it outlives their containers. */
  async logged(): Promise<ProjectId[]> {
    const files = await readdir(this.logs).catch(() => []);
    return files.flatMap((file) =>
      file.endsWith(logSuffix) ? file.slice(0, -logSuffix.length) : [],
    );
  }

  private get logs(): string {
    return join(this.folders.stateDir, 'logs');
  }

  /** The configuration that a container was made from. */
  configuration(containerId: string): string {
    const { stateDir } = this.folders;
    return join(stateDir, 'podman/overlay-containers', containerId, 'userdata/config.json');
  }

  /** conmon leaves a note in the folder where it was started, or beside the configuration. */
  async ranOutOfMemory(id: ProjectId, containerId: string): Promise<boolean> {
    const folders = [this.project(id), dirname(this.configuration(containerId))];
    for (const folder of folders) {
      const found = await access(join(folder, 'oom')).then(
        () => true,
        () => false,
      );
      if (found) return true;
    }
    return false;
  }

  get seccomp(): string {
    return join(this.folders.stateDir, 'seccomp.json');
  }

  get idRanges(): string {
    return join(this.folders.stateDir, 'id-ranges');
  }

  private get projects(): string {
    return join(this.folders.runDir, 'projects');
  }

  /** What every container reads, whoever it runs as; its folder is closed to others. */
  async write(id: ProjectId, { resolvers, gateway }: Surroundings): Promise<void> {
    await closedFolder(this.project(id));
    const files = this.files(id);
    const hostname = hostnameOf(id);
    const nameservers = resolvers.map((address) => `nameserver ${address}\n`).join('');
    const localhost = `127.0.0.1 localhost ${hostname}\n::1 localhost ip6-localhost\n`;
    await writeFile(files.resolvConf, nameservers);
    await writeFile(files.hosts, `${localhost}${gateway} host.rookery\n`);
    await writeFile(files.hostname, `${hostname}\n`);
    await writeFile(files.containerEnv, '');
  }
}

/** A container's host name: the project's id, short as people read it. */
export function hostnameOf(id: ProjectId): string {
  return id.slice(0, 8);
}

/** Also one that an earlier release has left open. */
async function closedFolder(path: string): Promise<void> {
  await mkdir(path, { recursive: true, mode: 0o700 });
  await chmod(path, 0o700);
}

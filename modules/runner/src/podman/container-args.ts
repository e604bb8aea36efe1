import {
  containerRescueFolder,
  containerRunFolder,
  type ContainerSpec,
} from '../container.driver.js';
import type { CgroupLimits } from './cgroups.js';
import { startFolderAnnotation } from './private-runtime.js';
import { containerHome } from './runner-id.js';

/** Files and folders that one container is made from, besides its volume. */
export interface ContainerFiles {
  /** What the host's own OCI runtime adds to it. */
  readonly startFolder: string;
  /** An empty folder: the root filesystem is mounted there for the container alone. */
  readonly rootDir: string;
  readonly pidFile: string;
  readonly idFile: string;
  readonly logFile: string;
  readonly resolvConf: string;
  readonly hosts: string;
  readonly hostname: string;
  readonly containerEnv: string;
  readonly seccomp: string;
  readonly toolsDir: string;
}

/** Parts of a project's volume as the container's users own them. */
export interface VolumeMounts {
  readonly home: string;
  readonly snapshots: string;
  readonly scratch: string;
  /** What the project has changed in its own root filesystem; only in rescue mode. */
  readonly rescued?: string;
}

export interface ContainerSettings {
  readonly name: string;
  readonly volume: VolumeMounts;
  readonly hostKey: string;
  readonly cgroupParent: string;
  readonly address: string;
  readonly hostname: string;
  readonly limits: CgroupLimits;
  readonly tmpBytes: number;
  readonly logBytesMax: number;
}

/** For who looks at podman's own list. */
const labels = {
  host: 'rookery.host',
  project: 'rookery.project',
  generation: 'rookery.generation',
  address: 'rookery.address',
  rescue: 'rookery.rescue',
} as const;

/** When the machine's memory is gone, a project ends before what runs and reaches all projects. */
const oomScoreAdj = 300;
const cpuPeriodUs = 100_000;
const runBytes = 64 * 1024 * 1024;
const defaultPath = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
const shmBytes = 64 * 1024 * 1024;

const init = [
  '/opt/rookery/bin/catatonit',
  '--',
  '/opt/rookery/bin/busybox',
  'sh',
  '/opt/rookery/bin/rookery-init',
];

/** The arguments of `podman run` or `podman create` for one project, without the verb. */
export function runArgs(
  spec: ContainerSpec,
  files: ContainerFiles,
  settings: ContainerSettings,
): string[] {
  return [
    '--name',
    settings.name,
    ...label(labels.host, settings.hostKey),
    ...label(labels.project, spec.projectId),
    ...label(labels.generation, String(spec.generation)),
    ...label(labels.address, settings.address),
    ...label(labels.rescue, String(spec.rescue === true)),
    '--hostname',
    settings.hostname,
    '--annotation',
    `${startFolderAnnotation}=${files.startFolder}`,
    // Its own network namespace, owned by its own user namespace; the link is put in from outside.
    '--network',
    'none',
    '--no-hosts',
    '--cgroup-parent',
    settings.cgroupParent,
    '--security-opt',
    `seccomp=${files.seccomp}`,
    '--systemd',
    'false',
    '--oom-score-adj',
    String(oomScoreAdj),
    ...limitArgs(spec, settings),
    ...mountArgs(spec, files, settings),
    '--workdir',
    containerHome,
    '--log-driver',
    'k8s-file',
    '--log-opt',
    `path=${files.logFile}`,
    '--log-opt',
    `max-size=${settings.logBytesMax}b`,
    '--pidfile',
    files.pidFile,
    '--cidfile',
    files.idFile,
    '--rootfs',
    files.rootDir,
    ...init,
  ];
}

/** The environment of everything in a container: the usual, the image's, the host's. */
export function containerEnv(spec: ContainerSpec, hostname: string): Record<string, string> {
  return {
    PATH: defaultPath,
    TERM: 'xterm',
    container: 'podman',
    HOSTNAME: hostname,
    ...spec.env,
    HOME: containerHome,
    ROOKERY_PROJECT_ID: spec.projectId,
  };
}

/** The same limits as `runc update` and `crun update` take them. */
export function updateArgs(quota: ContainerSpec['quota'], limits: CgroupLimits): string[] {
  return [
    ...(limits.memory
      ? ['--memory', String(quota.memoryBytes), '--memory-swap', String(quota.memoryBytes)]
      : []),
    ...(limits.cpu
      ? ['--cpu-period', String(cpuPeriodUs), '--cpu-quota', String(cpuQuota(quota.cpus))]
      : []),
    ...(limits.pids ? ['--pids-limit', String(quota.pidsMax)] : []),
  ];
}

function limitArgs(spec: ContainerSpec, settings: ContainerSettings): string[] {
  const { limits } = settings;
  return [
    ...updateArgs(spec.quota, { ...limits, pids: false }),
    // podman sets a limit of its own where none is asked for, and fails where it cannot.
    '--pids-limit',
    limits.pids ? String(spec.quota.pidsMax) : '-1',
    // podman would mount /dev/shm on the host, where others see it.
    '--ipc',
    'none',
  ];
}

function mountArgs(
  spec: ContainerSpec,
  files: ContainerFiles,
  settings: ContainerSettings,
): string[] {
  const { volume } = settings;
  return [
    '--tmpfs',
    `/tmp:rw,nosuid,nodev,size=${settings.tmpBytes},mode=1777`,
    '--tmpfs',
    `/run:rw,nosuid,nodev,size=${runBytes},mode=755`,
    '--tmpfs',
    `/dev/shm:rw,nosuid,nodev,noexec,size=${shmBytes},mode=1777`,
    ...bind(volume.home, containerHome),
    ...bind(volume.snapshots, `${containerHome}/.snapshots`, 'ro'),
    ...bind(volume.scratch, '/scratch'),
    ...(volume.rescued === undefined ? [] : bind(volume.rescued, containerRescueFolder)),
    ...bind(files.toolsDir, '/opt/rookery', 'ro'),
    // Read-only, and in place of podman's own writable ones: they lie on the host's tmpfs, which
    // a project could fill.
    ...bind(files.resolvConf, '/etc/resolv.conf', 'ro'),
    ...bind(files.hosts, '/etc/hosts', 'ro'),
    ...bind(files.hostname, '/etc/hostname', 'ro'),
    ...bind(files.containerEnv, '/run/.containerenv', 'ro'),
    ...(spec.runFolder === undefined ? [] : bind(spec.runFolder, containerRunFolder, 'ro')),
  ];
}

function bind(from: string, to: string, mode = 'rw'): string[] {
  return ['--volume', `${from}:${to}:${mode}`];
}

function label(name: string, value: string): string[] {
  return ['--label', `${name}=${value}`];
}

function cpuQuota(cpus: number): number {
  return Math.max(1000, Math.round(cpus * cpuPeriodUs));
}

import type { Readable, Writable } from 'node:stream';
import type { Egress, EgressMode, ProjectId, Quota } from '@rookery/core/contract';
import type { VolumePaths } from '@rookery/storage/contract';
import type { ContainerStats, ExecInput } from '@rookery/fleet/contract';

/** Whether every project's container has user ids of its own on this machine. */
export type Isolation =
  | { readonly kind: 'idmapped' }
  /** All containers have the same ids, those of the files on disk. */
  | { readonly kind: 'shared'; readonly reason: string };

/** How much memory all containers of a host together may use, and what holds them to it. */
export type MemorySlice =
  | { readonly kind: 'cgroup-v1' | 'cgroup-v2'; readonly bytes: number }
  /** Each has its own limit only. */
  | { readonly kind: 'none'; readonly reason: string };

export interface ContainerCapabilities {
  /** Limits that this machine's cgroups really enforce. */
  readonly limits: { readonly memory: boolean; readonly cpu: boolean; readonly pids: boolean };
  readonly network: boolean;
  /** What projects may reach at most; absent where nothing is enforced. */
  readonly egress?: EgressMode;
  readonly isolation: Isolation;
  readonly memorySlice: MemorySlice;
}

/** Everything a container is made from. */
export interface ContainerSpec {
  readonly projectId: ProjectId;
  readonly generation: number;
  /** Read-only root filesystem of the image: the overlay's lower. */
  readonly imagePath: string;
  /** Normalized reference: keys the overlay's upper. */
  readonly imageRef: string;
  readonly volume: VolumePaths;
  readonly quota: Quota;
  /** What it may reach; absent: what the host allows. */
  readonly egress?: Egress | undefined;
  /**
   * With a clean root filesystem, which the next start throws away; the project's own changes are
   * seen at {@link containerRescueFolder}.
   */
  readonly rescue?: boolean | undefined;
  readonly env: Readonly<Record<string, string>>;
  /** A folder of the host that the container sees, read-only, at {@link containerRunFolder}. */
  readonly runFolder?: string;
  /** Called when all is made and mounted, right before the first process runs. */
  readonly beforeRun?: () => Promise<void>;
}

/** What an app has for a container, beside image and volume. */
export interface ContainerAddition {
  readonly env: Readonly<Record<string, string>>;
  readonly runFolder?: string;
}

/** Where a container sees its run folder. */
export const containerRunFolder = '/run/rookery';
/**
 * Where a container in rescue mode sees what the project has changed in its own root filesystem, to
 * be written. No image has a folder of this name: nothing of the clean one is hidden behind it.
 */
export const containerRescueFolder = '/rescue';

/** Port: what else an app puts into its containers, for example keys. */
export abstract class ContainerExtras {
  /**
   * Before each start, also of a container that runs already.
   * @param rootId the host's user that is root in the container: what it alone may read is its own
   */
  abstract prepare(
    projectId: ProjectId,
    generation: number,
    rootId: number,
  ): Promise<ContainerAddition>;
}

export interface ContainerStatus {
  readonly projectId: ProjectId;
  readonly generation: number;
  readonly state: 'running' | 'exited' | 'created' | 'broken';
  /** Its root filesystem is a clean one, see {@link ContainerSpec.rescue}. */
  readonly rescue?: boolean;
  /** Where the host reaches the container's services; services on its 127.0.0.1 included. */
  readonly address?: string;
  /** The kernel's number of the one link that leads to it; absent where there are no links. */
  readonly linkIndex?: number;
  readonly startedAt?: number;
}

/** How a container ended by itself. */
export interface ContainerEnd {
  /** Status of its first process; absent where nobody has noted it. */
  readonly exit?: number;
  /** The kernel ended its first process for want of memory. */
  readonly outOfMemory: boolean;
}

/** Whether a start would make nothing else than what runs. */
export const isWhatRuns = (
  spec: Pick<ContainerSpec, 'generation' | 'rescue'>,
  running: Pick<ContainerStatus, 'generation' | 'rescue'>,
): boolean =>
  running.generation === spec.generation && (running.rescue === true) === (spec.rescue === true);

export interface ExecSession {
  readonly stdin: Writable;
  readonly stdout: Readable;
  /** Empty with a tty. */
  readonly stderr: Readable;
  resize(size: { columns: number; rows: number }): void;
  signal(signal: NodeJS.Signals): void;
  /** Exit status; 128 + n for signal n. */
  readonly exit: Promise<number>;
  kill(): void;
}

/** Policies of the projects that have one, as the records say at that moment. */
export type EgressOf = () => Promise<ReadonlyMap<ProjectId, Egress>>;

/** One container a project. Every method is safe to repeat. */
export abstract class ContainerDriver {
  abstract readonly capabilities: ContainerCapabilities;

  abstract open(): Promise<void>;
  /** Leaves containers running. */
  abstract close(): Promise<void>;

  /**
   * Mounts, network, limits, container: it runs when this resolves. One that runs at the same
   * generation and in the same mode is left alone.
   */
  abstract start(spec: ContainerSpec): Promise<ContainerStatus>;
  /** SIGTERM, after `graceMs` SIGKILL; then mounts and network are gone. Not running: nothing to do. */
  abstract stop(id: ProjectId, options: { graceMs: number }): Promise<void>;
  /** New limits on a running container. */
  abstract update(id: ProjectId, quota: Quota): Promise<void>;

  /** The user of this host that is, or will be, root in the project's container. */
  abstract rootIdOf(id: ProjectId): Promise<number>;

  /** Projects of which this driver keeps anything, running or not. */
  abstract known(): Promise<ProjectId[]>;
  /** The project was deleted or has left: as {@link stop}, and nothing of it is kept. */
  abstract forget(id: ProjectId, options: { graceMs: number }): Promise<void>;

  /** What a running container may reach, from now on and in the connections that it has. */
  abstract setEgress(id: ProjectId, egress: Egress | undefined): Promise<void>;

  /** Waits for no container, whatever is done to it meanwhile. */
  abstract list(): Promise<ContainerStatus[]>;
  /** Of one that has exited. */
  abstract endOf(id: ProjectId): Promise<ContainerEnd>;
  abstract exec(input: ExecInput): Promise<ExecSession>;
  abstract logs(
    id: ProjectId,
    options: { follow: boolean; tailLines?: number; signal: AbortSignal },
  ): Readable;
  /** TCP ports on which something in the container listens; undefined when it does not run. */
  abstract listeningPorts(id: ProjectId): Promise<number[] | undefined>;
  abstract stats(id: ProjectId): Promise<ContainerStats>;

  /**
   * Makes routes, rules and addresses what the containers need: what somebody took away comes
   * back, what belongs to no container goes. @returns the kinds of what was done
   */
  abstract repairNetwork(egressOf: EgressOf): Promise<string[]>;

  /** How many processes of a running container the kernel has killed for want of memory. */
  abstract memoryKills(id: ProjectId): Promise<number>;

  /** Ends containers, mounts, namespaces and rules of projects that are not in `keep`. */
  abstract removeStrays(keep: readonly ProjectId[]): Promise<ProjectId[]>;
}

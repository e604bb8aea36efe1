import { createHash, randomBytes, randomUUID } from 'node:crypto';
import { BackupErrors } from '@rookery/backup';
import {
  hostBackups,
  nameTag,
  type BackupRecord,
  hostAccess,
  hostCopies,
  hostRegistration,
  hostReports,
  identityNames,
  moveDestination,
  moveSource,
  hostProjects,
  type HostProjectView,
  hostSnapshots,
} from '@rookery/fleet/contract';
import { ConatClient } from '@rookery/conat';
import { createServiceClient, serve } from '@rookery/rpc';
import { joiningIdentityName } from '@rookery/fleet';
import { CoreErrors, createLogger, GiB } from '@rookery/core';
import type { CodedErrorView, Fence, ProjectSpec, ProjectState } from '@rookery/core/contract';
import type { Handlers, ServiceContract } from '@rookery/rpc/contract';
import { admitAttempt, noAttempts, RunnerErrors, type KnownAttempts } from '@rookery/runner';
import { createUser } from '@nats-io/nkeys';

export interface FakeProject {
  generation: number;
  state: ProjectState;
  spec: ProjectSpec;
  /** What a test put there: moves, clones and backups must carry it. */
  content: string;
  fenced: boolean;
  /** For the archive: nobody else writes. */
  shutOut: boolean;
  snapshots: Map<string, { content: string; locked: boolean; createdAt: string }>;
}

/** A fault at one method: before its effect, or after it, when only the reply is lost. */
export interface HostFault {
  readonly method: string;
  readonly when: 'before' | 'after';
  readonly error?: Error;
  times?: number;
}

/** Backups outlive hosts: several share one repository. */
export type FakeRepository = Map<
  string,
  BackupRecord & { content: string; spec: ProjectSpec; name?: string | undefined }
>;

export interface FakeHostOptions {
  readonly name: string;
  readonly hubUrl: string;
  readonly joinToken: string;
  readonly repository?: FakeRepository;
  readonly diskFreeBytes?: number;
  /** What the machine has, of which a multiple is promised. */
  readonly memoryBytes?: number;
  readonly sendReceive?: boolean;
  readonly region?: string;
  /** Hosts that tell the same one share their repository. */
  readonly repositoryId?: string;
}

/** A host without storage or containers, on the real control network. */
export class FakeHost {
  /** Digests in its image cache. */
  images: string[] = [];
  readonly projects = new Map<string, FakeProject>();
  /** Landed at the destination of a move, not yet a project. */
  readonly landings = new Map<string, string>();
  readonly retired: string[] = [];
  /** Restores fail when all is there but the swap, which the host repeats later. */
  stallsAtPlacing = false;
  readonly unfinished = new Map<string, () => void>();
  /** Contents that lie there beside its projects, and which of them are kept. */
  readonly copies = new Map<string, string>();
  readonly kept = new Set<string>();
  readonly repository: FakeRepository;
  /** False: a host of before backups were read back. */
  verifies = true;
  /** Of the list of all backups: small, so that a few make several pages. */
  pageSize = 2;
  readonly calls: string[] = [];
  /** Peers by id, so that a move's bytes have somewhere to go. */
  peers: () => readonly FakeHost[] = () => [];
  faults: HostFault[] = [];
  /** Held before its effect until the test lets it go on. */
  gates = new Map<string, Promise<void>>();
  hostId = '';
  /** How often the hub said that rights have changed. */
  accessNews = 0;
  accessRevision = 0;
  owned: { projectId: string; generation: number }[] = [];
  diskFreeBytes: number;
  private client: ConatClient | undefined;
  /** False: as a host of an earlier release. */
  knowsRescue = true;
  private timer: NodeJS.Timeout | undefined;
  readonly attempts = new Map<string, KnownAttempts>();
  private readonly identity = createUser();
  private readonly log = createLogger('fake-host', 'silent');

  constructor(readonly options: FakeHostOptions) {
    this.repository = options.repository ?? new Map();
    this.diskFreeBytes = options.diskFreeBytes ?? 100 * GiB;
  }

  static async join(options: FakeHostOptions): Promise<FakeHost> {
    const host = new FakeHost(options);
    await host.register();
    await host.connect();
    return host;
  }

  get name(): string {
    return this.options.name;
  }

  registration() {
    const key = (): string => `ssh-ed25519 ${randomBytes(51).toString('base64')}`;
    return {
      joinToken: this.options.joinToken,
      name: this.options.name,
      region: this.options.region ?? 'default',
      identityKey: this.identity.getPublicKey(),
      transferKey: key(),
      ingressKey: key(),
      publicUrl: 'http://127.0.0.1:1',
      internalUrl: 'http://127.0.0.1:1',
      sshHost: '127.0.0.1',
      sshPort: 2222,
      version: '0.1.0',
      ...this.figures(),
    };
  }

  async register(): Promise<void> {
    const client = await ConatClient.connect({
      servers: `${this.options.hubUrl}/conat`,
      identity: joiningIdentityName(this.options.joinToken),
      credentials: { token: this.options.joinToken },
      connectTimeoutMs: 5000,
      logger: this.log,
    });
    try {
      const hub = createServiceClient(client, hostRegistration, {});
      this.hostId = (await hub.register(this.registration())).hostId;
    } finally {
      await client.close();
    }
  }

  /** Cannot serve, and says why. */
  async sayTrouble(error: CodedErrorView, hostId = this.hostId): Promise<void> {
    const client = await this.dial();
    try {
      await createServiceClient(client, hostReports, { hostId }).trouble({ error });
    } finally {
      await client.close();
    }
  }

  private dial(): Promise<ConatClient> {
    return ConatClient.connect({
      servers: `${this.options.hubUrl}/conat`,
      identity: identityNames.host(this.hostId),
      credentials: { nkeySeed: new TextDecoder().decode(this.identity.getSeed()) },
      connectTimeoutMs: 5000,
      logger: this.log,
    });
  }

  async connect(): Promise<void> {
    const client = await this.dial();
    this.client = client;
    const params = { hostId: this.hostId };
    const on = <C extends ServiceContract>(contract: C, handlers: Handlers<C>) =>
      serve(client, contract, this.faulty(contract, handlers), { params, logger: this.log });
    await on(hostProjects, this.projectHandlers);
    await on(hostSnapshots, this.snapshotHandlers);
    await on(hostBackups, this.backupHandlers);
    await on(moveSource, this.sourceHandlers);
    await on(moveDestination, this.destinationHandlers);
    await on(hostCopies, {
      list: async () => ({
        copies: [...this.copies.keys()].map((projectId) => ({
          projectId,
          generation: 1,
          usedBytes: 4096,
          kept: this.kept.has(projectId),
        })),
      }),
      keep: async ({ projectId, kept }) => {
        if (kept) this.kept.add(projectId);
        else this.kept.delete(projectId);
        return {};
      },
      delete: async ({ fence }) => {
        this.fence(fence);
        this.copies.delete(fence.projectId);
        return {};
      },
    });
    await on(hostAccess, {
      changed: async () => {
        this.accessNews += 1;
        return {};
      },
    });
    await this.heartbeat();
    this.timer = setInterval(() => void this.heartbeat().catch(() => undefined), 200);
  }

  /** Goes away without a word. */
  async disconnect(): Promise<void> {
    clearInterval(this.timer);
    await this.client?.nats.close();
    this.client = undefined;
  }

  async heartbeat(projects = [...this.projects.entries()]): Promise<void> {
    if (!this.client) return;
    const hub = createServiceClient(this.client, hostReports, { hostId: this.hostId });
    const answer = await hub.heartbeat({
      version: '0.1.0',
      ...this.figures(),
      images: this.images,
      ...(projects.length === this.projects.size && { span: {} }),
      copies: this.copies.size - this.kept.size,
      projects: projects.map(([projectId, { generation, state }]) => ({
        projectId,
        generation,
        state,
        diskUsedBytes: 4096,
      })),
    });
    this.owned = answer.owned;
    this.accessRevision = answer.accessRevision;
  }

  async raw(): Promise<ConatClient> {
    return this.client!;
  }

  fail(method: string, when: 'before' | 'after', times = 1, error?: Error): void {
    this.faults.push({ method, when, times, ...(error && { error }) });
  }

  /** Holds calls of a method before their effect. @returns lets them go on */
  hold(method: string): () => void {
    let release!: () => void;
    this.gates.set(method, new Promise((resolve) => (release = resolve)));
    return () => {
      this.gates.delete(method);
      release();
    };
  }

  private figures() {
    return {
      capabilities: {
        storageDriver: 'memory' as const,
        quota: 'simple' as const,
        snapshots: true,
        sendReceive: this.options.sendReceive ?? true,
        sendProtocol: 2,
        backupDrivers: ['restic'],
        ...(this.options.repositoryId !== undefined && {
          backupRepository: {
            name: 'shared',
            state: 'ok' as const,
            id: this.options.repositoryId,
          },
        }),
        egress: 'internet' as const,
      },
      capacity: {
        diskBytes: 200 * GiB,
        diskFreeBytes: this.diskFreeBytes,
        cpus: 4,
        memoryBytes: this.options.memoryBytes ?? 64 * GiB,
        memoryFreeBytes: 60 * GiB,
        projectsRunning: [...this.projects.values()].filter((p) => p.state === 'running').length,
      },
    };
  }

  private faulty<C extends ServiceContract>(contract: C, handlers: Handlers<C>): Handlers<C> {
    const wrapped: Record<string, unknown> = {};
    const prefix = contract.prefix.replace(/^host\.\{hostId\}\./, '');
    for (const [name, handler] of Object.entries(handlers as Record<string, AnyHandler>)) {
      const method = `${prefix}.${name}`;
      wrapped[name] = async (input: unknown, context: unknown) => {
        this.calls.push(method);
        await this.gates.get(method);
        const fault = this.take(method);
        if (fault?.when === 'before') throw fault.error ?? lost(method);
        const output = await handler(input, context);
        if (fault) throw fault.error ?? lost(method);
        return output;
      };
    }
    return wrapped as Handlers<C>;
  }

  private take(method: string): HostFault | undefined {
    const fault = this.faults.find((each) => each.method === method && (each.times ?? 1) > 0);
    if (fault) fault.times = (fault.times ?? 1) - 1;
    return fault;
  }

  /** What every real host refuses as well. */
  private fence(fence: Fence): void {
    const current = this.projects.get(fence.projectId)?.generation ?? 0;
    if (fence.generation < current) {
      throw CoreErrors.STALE_GENERATION({ given: fence.generation, current });
    }
    const known = this.attempts.get(fence.projectId) ?? noAttempts;
    this.attempts.set(fence.projectId, admitAttempt(known, fence, { exclusive: true }));
  }

  private need(projectId: string): FakeProject {
    const project = this.projects.get(projectId);
    if (!project) throw CoreErrors.NOT_FOUND({ what: 'project', id: projectId });
    return project;
  }

  private view(projectId: string): HostProjectView {
    const { generation, state, spec } = this.need(projectId);
    return { projectId, generation, state, spec: { ...spec, imageDigest: digestOf(spec.image) } };
  }

  private put(fence: Fence, spec: ProjectSpec, content: string): FakeProject {
    const project: FakeProject = {
      generation: fence.generation,
      state: 'created',
      spec,
      content,
      fenced: false,
      shutOut: false,
      snapshots: new Map(),
    };
    this.projects.set(fence.projectId, project);
    return project;
  }

  private peer(hostId: string): FakeHost {
    const found = this.peers().find((each) => each.hostId === hostId);
    if (!found) throw new Error(`no peer ${hostId}`);
    return found;
  }

  private readonly projectHandlers: Handlers<typeof hostProjects> = {
    create: async ({ fence, spec }) => {
      this.fence(fence);
      if (spec.image.startsWith('denied')) {
        throw CoreErrors.INVALID_INPUT({ reason: 'IMAGE_DENIED' });
      }
      if (!this.projects.has(fence.projectId)) this.put(fence, spec, `fresh ${randomUUID()}`);
      return this.view(fence.projectId);
    },
    start: async ({ fence, spec }, context) => {
      this.fence(fence);
      const project = this.need(fence.projectId);
      if (project.fenced) throw CoreErrors.INVALID_INPUT({ reason: 'the project is fenced' });
      context.progress({ step: 'pull', done: 1, total: 2, unit: 'bytes' });
      const { rescue, ...rest } = spec;
      const known = this.knowsRescue && rescue === true ? { ...rest, rescue } : rest;
      Object.assign(project, { state: 'running', spec: known });
      return this.view(fence.projectId);
    },
    stop: async ({ fence, writers }) => {
      this.fence(fence);
      const project = this.need(fence.projectId);
      project.state = 'stopped';
      if (writers !== undefined) project.shutOut = writers === 'shut-out';
      return this.view(fence.projectId);
    },
    delete: async ({ fence }) => {
      this.fence(fence);
      this.projects.delete(fence.projectId);
      return {};
    },
    update: async ({ fence, spec }) => {
      this.fence(fence);
      this.need(fence.projectId).spec = spec;
      return this.view(fence.projectId);
    },
    clone: async ({ fence, fromProjectId, spec }) => {
      this.fence(fence);
      const { content } = this.need(fromProjectId);
      if (!this.projects.has(fence.projectId)) this.put(fence, spec, content);
      return this.view(fence.projectId);
    },
    adopt: async ({ fence, spec }) => {
      this.fence(fence);
      const content = this.copies.get(fence.projectId);
      if (content === undefined) throw RunnerErrors.NOTHING_TO_ADOPT({ ...fence });
      this.copies.delete(fence.projectId);
      this.put(fence, spec, content).state = 'stopped';
      return this.view(fence.projectId);
    },
    get: async ({ projectId }) => this.view(projectId),
    stats: async () => ({ cpuSeconds: 1, memoryBytes: 2, memoryLimitBytes: 3, pids: 4 }),
    exec: async ({ command }, { stdin, stdout }) => {
      for await (const chunk of stdin) {
        if (!stdout.write(chunk)) await new Promise((resolve) => stdout.once('drain', resolve));
      }
      stdout.write(command.join(' '));
      return { exit: 7 };
    },
    logs: async (_input, { stdout }) => {
      stdout.write('a line\n');
      return {};
    },
  };

  private readonly snapshotHandlers: Handlers<typeof hostSnapshots> = {
    create: async ({ fence, name }) => {
      this.fence(fence);
      const { snapshots, content } = this.need(fence.projectId);
      snapshots.set(name, { content, locked: false, createdAt: new Date().toISOString() });
      return snapshotView(name, snapshots.get(name)!);
    },
    list: async ({ projectId }) => ({
      snapshots: [...this.need(projectId).snapshots].map(([name, each]) =>
        snapshotView(name, each),
      ),
    }),
    setLocked: async ({ fence, name, locked }) => {
      this.fence(fence);
      const snapshot = this.need(fence.projectId).snapshots.get(name);
      if (!snapshot) throw CoreErrors.NOT_FOUND({ what: 'snapshot', id: name });
      snapshot.locked = locked;
      return snapshotView(name, snapshot);
    },
    delete: async ({ fence, name }) => {
      this.fence(fence);
      this.need(fence.projectId).snapshots.delete(name);
      return {};
    },
    restore: async ({ fence, name, path }) => {
      this.fence(fence);
      const project = this.need(fence.projectId);
      const snapshot = project.snapshots.get(name);
      if (!snapshot) throw CoreErrors.NOT_FOUND({ what: 'snapshot', id: name });
      if (path === undefined && project.state === 'running') {
        throw CoreErrors.INVALID_INPUT({ reason: 'running' });
      }
      project.content = snapshot.content;
      return path === undefined ? { previous: 'before-restore' } : {};
    },
    resetRootfs: async ({ fence, keepAs }) => {
      this.fence(fence);
      const project = this.need(fence.projectId);
      if (project.state === 'running') throw CoreErrors.INVALID_INPUT({ reason: 'running' });
      const { content, snapshots } = project;
      if (keepAs !== undefined && !snapshots.has(keepAs)) {
        snapshots.set(keepAs, { content, locked: false, createdAt: new Date().toISOString() });
      }
      return {};
    },
    usage: async () => ({ usedBytes: 4096 }),
  };

  private readonly backupHandlers: Handlers<typeof hostBackups> = {
    run: async ({ fence, spec, name, tags: given, verify = false }) => {
      this.fence(fence);
      const { content } = this.need(fence.projectId);
      const tags = [...given, ...(name === undefined ? [] : [nameTag(name)])];
      const backupId = createHash('sha256').update(fence.operationId).digest('hex');
      const record: BackupRecord = {
        backupId,
        projectId: fence.projectId,
        createdAt: new Date().toISOString(),
        tags,
        driver: 'restic',
        repository: 'shared',
        bytes: content.length,
        files: 1,
        bytesAdded: content.length,
        durationMs: 1,
        verified: verify && this.verifies,
      };
      this.repository.set(backupId, { ...record, content, spec, name });
      return record;
    },
    repository: async () => ({ name: 'shared', state: 'ok', id: 'feedc0de' }),
    init: async () => ({ name: 'shared', state: 'ok', id: 'feedc0de' }),
    list: async ({ projectId }) => ({
      backups: [...this.repository.values()].filter((each) => each.projectId === projectId),
    }),
    listAll: async ({ after, limit }) => {
      const keyOf = (each: { projectId: string; backupId: string }) =>
        `${each.projectId}/${each.backupId}`;
      const rest = [...this.repository.values()]
        .sort((x, y) => (keyOf(x) < keyOf(y) ? -1 : 1))
        .filter((each) => after === undefined || keyOf(each) > keyOf(after));
      const size = Math.min(limit, this.pageSize);
      return { backups: rest.slice(0, size), more: rest.length > size };
    },
    describe: async ({ projectId, backupId }) => {
      const backup = this.repository.get(backupId);
      if (!backup) throw backupNotFound(projectId, backupId);
      return { spec: backup.spec, ...(backup.name !== undefined && { name: backup.name }) };
    },
    restore: async ({ fence, backupId, spec, replace }) => {
      this.fence(fence);
      const backup = this.repository.get(backupId);
      if (!backup) throw backupNotFound(fence.projectId, backupId);
      const known = this.projects.get(fence.projectId);
      if (known && known.generation < fence.generation && !replace) {
        throw CoreErrors.INVALID_INPUT({ reason: 'an older copy is here' });
      }
      const place = () => void (this.put(fence, spec, backup.content).state = 'stopped');
      const placed = known !== undefined && known.generation >= fence.generation;
      if (this.stallsAtPlacing && !placed) {
        this.unfinished.set(fence.projectId, place);
        throw BackupErrors.RESTORE_FAILED({
          reason: 'the content is complete, its place is not free',
        });
      }
      place();
      return { bytes: backup.content.length, files: 1 };
    },
    settle: async ({ fence }) => {
      this.unfinished.get(fence.projectId)?.();
      this.unfinished.delete(fence.projectId);
      const generation = this.projects.get(fence.projectId)?.generation ?? -1;
      return { placed: generation >= fence.generation };
    },
    restorePath: async ({ fence, backupId }) => {
      this.fence(fence);
      const backup = this.repository.get(backupId);
      if (!backup) throw backupNotFound(fence.projectId, backupId);
      this.need(fence.projectId).content = backup.content;
      return { bytes: 1, files: 1 };
    },
  };

  private readonly sourceHandlers: Handlers<typeof moveSource> = {
    describe: async ({ fence }) => {
      this.fence(fence);
      const { state, spec, snapshots } = this.need(fence.projectId);
      return {
        usedBytes: 4096,
        imageDigest: digestOf(spec.image),
        snapshots: snapshots.size,
        running: state === 'running',
      };
    },
    imageTree: async ({ imageDigest }) => ({ treeDigest: treeOf(imageDigest) }),
    copy: async ({ fence }, context) => {
      this.fence(fence);
      context.progress({ step: 'send', done: 1, total: 2, unit: 'bytes' });
      return { rounds: 1, bytes: 100, lastDeltaBytes: 10 };
    },
    cutover: async ({ fence, moveId, target }) => {
      this.fence(fence);
      const project = this.need(fence.projectId);
      const wasRunning = project.state === 'running' || project.fenced;
      Object.assign(project, { fenced: true, state: 'stopped' });
      this.peer(target.hostId).landings.set(moveId, project.content);
      return {
        wasRunning,
        bytes: 10,
        manifest: { snapshots: [], final: { name: 'move-1', uuid: randomUUID() } },
      };
    },
    resume: async ({ fence, restart, takeBack }) => {
      this.fence(fence);
      const project = this.projects.get(fence.projectId);
      if (project && takeBack) project.generation = takeBack.generation;
      if (project?.fenced === true) {
        Object.assign(project, { fenced: false, ...(restart && { state: 'running' }) });
      }
      return {};
    },
    retire: async ({ fence }) => {
      this.fence(fence);
      if (this.projects.delete(fence.projectId)) this.retired.push(fence.projectId);
      return {};
    },
  };

  private readonly destinationHandlers: Handlers<typeof moveDestination> = {
    prepare: async ({ fence }) => {
      this.fence(fence);
      return { hasImage: true };
    },
    fetchImage: async () => ({}),
    verify: async ({ moveId }) => {
      if (!this.landings.has(moveId)) throw CoreErrors.NOT_FOUND({ what: 'landing', id: moveId });
      return {};
    },
    activate: async ({ fence, moveId, spec, start }) => {
      this.fence(fence);
      const content = this.landings.get(moveId);
      if (content !== undefined) {
        this.put(fence, spec, content).state = start ? 'running' : 'stopped';
        this.landings.delete(moveId);
      }
      return { overQuota: false };
    },
    abandon: async ({ moveId }) => {
      this.landings.delete(moveId);
      return {};
    },
  };
}

type AnyHandler = (input: unknown, context: unknown) => Promise<unknown>;

const backupNotFound = (projectId: string, backupId: string) =>
  BackupErrors.BACKUP_NOT_FOUND({ projectId, backupId, repository: 'shared' });

const lost = (method: string) => CoreErrors.TIMEOUT({ what: `${method} (injected)`, timeoutMs: 0 });

const digestOf = (image: string): string =>
  `sha256:${createHash('sha256').update(image).digest('hex')}`;

const treeOf = (imageDigest: string): string =>
  `tree1:${createHash('sha256').update(imageDigest).digest('hex')}`;

const snapshotView = (name: string, each: { locked: boolean; createdAt: string }) => ({
  name,
  locked: each.locked,
  createdAt: each.createdAt,
});

import { CodedError } from '@rookery/core';
import type {
  BackupView,
  HostCopyView,
  HostView,
  OperationView,
  ProjectBackupsView,
  ProjectView,
} from '@rookery/api';
import { ContractServer, type ContractHandlers } from './contract-server.js';
import { hostView, operationView, projectView } from './views.js';

const at = '2026-01-02T03:04:05.000Z';
export const backupId = 'ab12cd34'.repeat(8);

const missing = (code: string, id: string): CodedError =>
  new CodedError({ code, message: `There is no ${id}.`, status: 404, retryable: false });

/** Without the fields that are there as undefined. */
const chosenOf = (quota: object): Partial<ProjectView['quota']> =>
  JSON.parse(JSON.stringify(quota)) as Partial<ProjectView['quota']>;

/** What the API would do, without hosts: enough to drive every command over real HTTP. */
export class HubInMemory {
  readonly copies: HostCopyView[] = [];
  readonly hosts: HostView[] = [hostView('host-1'), hostView('host-2')];
  readonly projects = new Map<string, ProjectView>();
  readonly operations = new Map<string, OperationView>();
  readonly snapshots = new Map<string, { name: string; createdAt: string; locked: boolean }[]>();
  readonly repository: ProjectBackupsView[] = [];
  /** The next operation ends this way. */
  nextEnd: Partial<OperationView> = { state: 'succeeded' };
  conat = { url: 'ws://127.0.0.1:1/conat', token: 'none', inboxPrefix: '_INBOX.account-1' };
  /** Runs before the answer to a create. */
  onCreate: (projectId: string) => Promise<void> = () => Promise.resolve();
  server!: ContractServer;

  static async start(): Promise<HubInMemory> {
    const hub = new HubInMemory();
    hub.server = await ContractServer.start(hub.handlers(), { token: 'rk_secret' });
    return hub;
  }

  add(name: string, change: Partial<ProjectView> = {}): ProjectView {
    const project = { ...projectView(name, this.hosts[0]!, this.server.url), ...change };
    this.projects.set(project.id, project);
    return project;
  }

  private project(id: string): ProjectView {
    const found = this.projects.get(id);
    if (!found) throw missing('PROJECT_UNKNOWN', id);
    return found;
  }

  private begin(kind: string, projectId: string | null, done?: () => void): OperationView {
    const operation = operationView(kind, projectId);
    this.operations.set(operation.id, operation);
    if (this.nextEnd.state === 'succeeded') done?.();
    return operation;
  }

  private change(id: string, change: Partial<ProjectView>): ProjectView {
    const changed = { ...this.project(id), ...change };
    this.projects.set(id, changed);
    return changed;
  }

  private work(
    kind: string,
    id: string,
    change: Partial<ProjectView>,
  ): { operation: OperationView } {
    this.project(id);
    return { operation: this.begin(kind, id, () => this.change(id, change)) };
  }

  private backup(projectId: string): BackupView {
    return {
      id: backupId,
      projectId,
      createdAt: at,
      driver: 'restic',
      repository: 'default',
      hostId: this.hosts[0]!.id,
      bytes: 1000,
      files: 3,
      bytesAdded: 10,
      durationMs: 5,
      tags: [],
    };
  }

  private copy(projectId: string): HostCopyView {
    const found = this.copies.find((each) => each.projectId === projectId);
    if (!found) throw missing('COPY_UNKNOWN', projectId);
    return found;
  }

  private host(id: string): HostView {
    const found = this.hosts.find((host) => host.id === id);
    if (!found) throw missing('HOST_UNKNOWN', id);
    return found;
  }

  private *events(operationId: string): Generator<OperationView> {
    const start = this.operations.get(operationId)!;
    yield { ...start, state: 'running', step: 'work' };
    const progress = { step: 'send', done: 512, total: 1024, unit: 'bytes' } as const;
    yield { ...start, state: 'running', step: 'work', progress };
    const end = { ...start, endedAt: at, ...this.nextEnd };
    this.operations.set(operationId, end);
    yield end;
  }

  private handlers(): ContractHandlers {
    return { ...this.projectHandlers(), ...this.keepingHandlers(), ...this.fleetHandlers() };
  }

  private projectHandlers(): ContractHandlers {
    return {
      listProjects: ({ name, hostId, limit, cursor }) => {
        const all = [...this.projects.values()].filter(
          (one) =>
            (name === undefined || one.name === name) &&
            (hostId === undefined || one.hostId === hostId),
        );
        const from = Number(cursor ?? 0);
        const end = from + limit;
        return {
          items: all.slice(from, end),
          nextCursor: end < all.length ? String(end) : null,
        };
      },
      createProject: async ({ name, quota, start, image, host }) => {
        const made = this.add(name, {
          state: start ? 'running' : 'created',
          ...(image && { image }),
          ...(host && { host }),
        });
        const changed = this.change(made.id, {
          quota: { ...made.quota, ...chosenOf(quota) },
        });
        await this.onCreate(made.id);
        return { operation: this.begin('project.create', made.id), project: changed };
      },
      getProject: ({ projectId }) => this.project(projectId),
      updateProject: ({ projectId, name, quota, publicPorts, egress }) => {
        const present = this.project(projectId);
        return this.change(projectId, {
          ...(name !== undefined && { name }),
          ...(publicPorts && { publicPorts }),
          ...(egress !== undefined && { egress }),
          quota: { ...present.quota, ...chosenOf(quota ?? {}) },
        });
      },
      deleteProject: ({ projectId, force }) => {
        if (this.project(projectId).state === 'running' && force === 'false') {
          throw new CodedError({
            code: 'PROJECT_RUNNING',
            message: 'The project is running.',
            status: 409,
            retryable: false,
            details: { id: projectId },
          });
        }
        return {
          operation: this.begin('project.delete', projectId, () => this.projects.delete(projectId)),
        };
      },
      startProject: ({ projectId, rescue = false }) =>
        this.work('project.start', projectId, { state: 'running', rescue }),
      resetRootfs: ({ projectId, discard = false }) => {
        const previous = discard ? null : 'before-reset-1';
        this.nextEnd = { ...this.nextEnd, result: { projectId, previous } };
        return this.work('project.reset-rootfs', projectId, { state: 'running', rescue: false });
      },
      stopProject: ({ projectId }) => this.work('project.stop', projectId, { state: 'stopped' }),
      moveProject: ({ projectId, host }) =>
        this.work('project.move', projectId, {
          host: host ?? 'host-2',
          hostId: this.hosts[1]!.id,
          placementGeneration: 2,
        }),
      cloneProject: ({ projectId, name }) => {
        this.project(projectId);
        const made = this.add(name);
        return { operation: this.begin('project.clone', made.id), project: made };
      },
      archiveProject: ({ projectId }) =>
        this.work('project.archive', projectId, { state: 'archived', host: null, hostId: null }),
      rehydrateProject: ({ projectId }) =>
        this.work('project.rehydrate', projectId, { state: 'stopped' }),
      listPlacements: ({ projectId }) => ({
        items: [
          {
            id: projectId,
            projectId,
            chosenHostId: this.hosts[0]!.id,
            createdAt: at,
            candidates: [
              {
                hostId: this.hosts[0]!.id,
                host: 'host-1',
                eligible: true,
                score: 80,
                reasons: ['40 GiB free'],
              },
            ],
          },
        ],
        nextCursor: null,
      }),
      listCollaborators: () => ({
        items: [
          {
            accountId: '00000000-0000-4000-8000-000000000001',
            email: 'a@example.org',
            role: 'owner',
          },
        ],
      }),
      putCollaborator: ({ accountId, role }) => ({
        accountId: '00000000-0000-4000-8000-000000000009',
        role,
        email: String(accountId),
      }),
      listAccounts: () => ({
        items: [
          {
            id: '00000000-0000-4000-8000-000000000009',
            email: 'b@example.org',
            name: 'b',
            admin: false,
            blocked: false,
            createdAt: at,
          },
        ],
        nextCursor: null,
      }),
      deleteCollaborator: () => ({}),
      listSessions: () => ({
        items: [
          {
            id: '00000000-0000-4000-8000-000000000007',
            keyId: '00000000-0000-4000-8000-000000000006',
            keyName: 'laptop',
            address: '192.0.2.1',
            userAgent: 'a browser',
            createdAt: at,
            lastUsedAt: null,
            expiresAt: at,
          },
        ],
        nextCursor: null,
      }),
      endSession: () => ({}),
      endSessions: () => ({ ended: 1 }),
      createLoginTicket: ({ next }) => ({
        url: `${this.server.url}/login?ticket=t&next=${next}`,
        expiresAt: at,
      }),
    };
  }

  private keepingHandlers(): ContractHandlers {
    const of = (id: string) => {
      this.project(id);
      const list = this.snapshots.get(id) ?? [];
      this.snapshots.set(id, list);
      return list;
    };
    const one = (id: string, name: string) => {
      const found = of(id).find((snapshot) => snapshot.name === name);
      if (!found) throw missing('SNAPSHOT_NOT_FOUND', name);
      return found;
    };
    return {
      createSnapshot: ({ projectId, name }) => {
        const made = { name: name ?? '2026-01-02', createdAt: at, locked: false };
        of(projectId).push(made);
        return made;
      },
      listSnapshots: ({ projectId }) => ({ items: of(projectId) }),
      updateSnapshot: ({ projectId, name, locked }) =>
        Object.assign(one(projectId, name), { locked }),
      deleteSnapshot: ({ projectId, name }) => {
        one(projectId, name);
        this.snapshots.set(
          projectId,
          of(projectId).filter((snapshot) => snapshot.name !== name),
        );
        return {};
      },
      restoreSnapshot: ({ projectId, name }) => {
        one(projectId, name);
        return this.work('snapshot.restore', projectId, {});
      },
      runBackup: ({ projectId }) => {
        this.nextEnd = { ...this.nextEnd, result: { backupId } };
        return this.work('backup.run', projectId, { lastBackupAt: at });
      },
      listBackups: ({ projectId }) => ({ items: [this.backup(projectId)], nextCursor: null }),
      restoreBackup: ({ projectId, replace, name }) => {
        if (replace) return this.work('backup.restore', projectId, { placementGeneration: 2 });
        const made = this.add(name ?? 'restored');
        return { operation: this.begin('backup.restore', made.id), project: made };
      },
    };
  }

  private fleetHandlers(): ContractHandlers {
    return {
      listHosts: () => ({ items: this.hosts, nextCursor: null }),
      getHost: ({ hostId }) => this.host(hostId),
      createJoinToken: () => ({ token: 'join_me', expiresAt: at }),
      updateHost: ({ hostId, schedulable }) => Object.assign(this.host(hostId), { schedulable }),
      drainHost: () => ({ operation: this.begin('host.drain', null) }),
      removeHost: () => ({}),
      listHostBackups: ({ unknown }) => ({
        items: this.repository.filter(({ state }) => unknown === 'false' || state !== 'known'),
        nextCursor: null,
      }),
      reindexHostBackups: () => ({ backups: 3, projects: this.repository.length }),
      adoptBackup: ({ projectId, name, owner }) => {
        const made = this.add(name ?? 'found', { id: projectId });
        const operation = this.begin('backup.restore', made.id);
        return owner === undefined ? { operation, project: made } : { operation };
      },
      listHostCopies: () => ({ items: this.copies }),
      updateHostCopy: ({ projectId, kept }) => Object.assign(this.copy(projectId), { kept }),
      deleteHostCopy: ({ projectId }) => {
        this.copies.splice(this.copies.indexOf(this.copy(projectId)), 1);
        return { operation: this.begin('host.delete-copy', null) };
      },
      adoptHostCopy: ({ projectId }) => {
        this.copies.splice(this.copies.indexOf(this.copy(projectId)), 1);
        return { operation: this.begin('project.adopt', null) };
      },
      listOperations: () => ({ items: [...this.operations.values()], nextCursor: null }),
      getOperation: ({ operationId }) => {
        const found = this.operations.get(operationId);
        if (!found) throw missing('NOT_FOUND', operationId);
        return found;
      },
      watchOperation: ({ operationId }) => this.events(operationId),
      cancelOperation: ({ operationId }) => ({
        ...this.operations.get(operationId)!,
        cancelRequested: true,
      }),
      retryOperation: ({ operationId }) => this.operations.get(operationId)!,
      resolveOperation: ({ operationId }) => ({
        ...this.operations.get(operationId)!,
        state: 'failed',
        endedAt: at,
        leaves: ['host h may hold part of its result'],
      }),
      listAudit: () => ({
        items: [
          { id: '1', at, actor: 'a', action: 'project.create', subject: 'project:1', details: {} },
        ],
        nextCursor: null,
      }),
      createConatToken: () => ({ ...this.conat, expiresAt: at }),
      getHealth: () => ({ status: 'ok', version: '9.9.9' }),
      getAccount: () => ({
        id: '00000000-0000-4000-8000-000000000001',
        email: 'a@example.org',
        name: 'A',
        admin: true,
        createdAt: at,
      }),
      createAccount: ({ email, name, admin }) => ({
        account: {
          id: '00000000-0000-4000-8000-000000000002',
          email,
          name,
          admin,
          createdAt: at,
        },
        token: 'rk_new',
      }),
      listApiKeys: () => ({ items: [], nextCursor: null }),
      createApiKey: ({ name }) => ({
        key: {
          id: '00000000-0000-4000-8000-000000000003',
          name,
          createdAt: at,
          lastUsedAt: null,
          expiresAt: null,
        },
        token: 'rk_key',
      }),
      deleteApiKey: () => ({}),
    };
  }
}

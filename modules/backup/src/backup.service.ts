import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { CoreErrors, parseInput, SystemClock, SystemExec } from '@rookery/core';
import { ProjectId, type Fence } from '@rookery/core/contract';
import type { CallContext, Handlers, JobContext } from '@rookery/rpc/contract';
import { z } from 'zod';
import type { BackupFolders, StoredBackup } from './backup.driver.js';
import { BackupErrors } from './backup.errors.js';
import type { BackupJob, BackupDependencies } from './backup.ports.js';
import {
  nameTag,
  type BackupRecord,
  type hostBackups,
  type RepositoryView,
} from '@rookery/fleet/contract';
import { JobRunner, type JobOutcome, type JobTools } from './job-runner.js';
import { aboutOf, survey, writeAbout } from './temporary-snapshot.js';
import { RepositoryGate } from './repository-gate.js';
import {
  finishRestore,
  noteOf,
  placePath,
  restoreWhole,
  sparseTag,
  type RestoreDependencies,
} from './restore.js';
import { archivedPaths, archiveHoled, noArchives, planHoles } from './sparse-files.js';
import { verifyBackup } from './verify-backup.js';

const tagsMax = 20;
/** A list of all backups is shown page by page for so long before it is read anew. */
const listingMs = 60_000;
const Tag = z
  .string()
  .regex(/^[A-Za-z0-9][A-Za-z0-9._:+@=/-]{0,99}$/, 'use letters, digits and . _ : + @ = / -')
  .refine(
    (tag) => !/^(operation|bytes|files|name|sparse):/.test(tag),
    'operation:, bytes:, files:, name: and sparse: are kept',
  );

type Inputs = {
  readonly [K in keyof typeof hostBackups.methods]: z.output<
    (typeof hostBackups.methods)[K]['input']
  >;
};

/** Backs up and restores this host's projects: serves the contract `hostBackups`. */
export class BackupService implements Handlers<typeof hostBackups> {
  private readonly jobs: JobRunner;
  private readonly parts: RestoreDependencies;
  private readonly repositories: RepositoryGate;
  /** What later pages go on in, so that the repository is not read for each. */
  private listing: { readonly readAt: number; readonly backups: BackupRecord[] } | undefined;

  constructor(parts: BackupDependencies) {
    const { exec = new SystemExec(), clock = new SystemClock() } = parts;
    this.parts = { ...parts, exec };
    this.repositories = new RepositoryGate(parts.driver, parts.journal);
    const { concurrencyMax = 2, jobMsMax = 12 * 3_600_000, slotMsMax = 10 * 60_000 } = parts;
    this.jobs = new JobRunner(parts.journal, clock, { concurrencyMax, jobMsMax, slotMsMax });
  }

  readonly run = async (input: Inputs['run'], context: JobContext): Promise<BackupRecord> => {
    const tags = parseInput(z.array(Tag).max(tagsMax), input.tags);
    await this.parts.projects.authorize(input.fence);
    const { record } = await this.jobs.run('backup', input.fence, context, (tools) =>
      this.backUp(input, tags, tools),
    );
    return complete(record);
  };

  readonly list = async (input: Inputs['list']): Promise<{ backups: BackupRecord[] }> => {
    await this.repositories.open();
    const stored = await this.parts.driver.list({ host: hostOf(input.projectId) });
    const backups = stored.map((backup) => this.toRecord(backup, input.projectId));
    return { backups: backups.sort((a, b) => a.createdAt.localeCompare(b.createdAt)) };
  };

  readonly listAll = async ({ after, limit }: Inputs['listAll']) => {
    const all = await this.everything(after === undefined);
    const from = after === undefined ? 0 : all.findIndex((one) => compareIds(one, after) > 0);
    const rest = from < 0 ? [] : all.slice(from);
    const more = rest.length > limit;
    if (!more) this.listing = undefined;
    return { backups: rest.slice(0, limit), more };
  };

  readonly describe = async (input: Inputs['describe'], { signal }: CallContext) => {
    const backup = await this.find(input.projectId, input.backupId);
    const { projectId, spec, name } = await noteOf(this.parts, backup, signal);
    if (projectId === input.projectId) return { spec, ...(name !== undefined && { name }) };
    const reason = `it is of project ${projectId}`;
    throw BackupErrors.BACKUP_CONTENT_INVALID({ backupId: backup.id, reason });
  };

  readonly repository = (): Promise<RepositoryView> => this.repositories.view();

  readonly init = ({ adopt }: Inputs['init']): Promise<RepositoryView> =>
    this.repositories.init(adopt === true);

  /** The repository as it was at its last use. */
  get lastRepository(): RepositoryView | undefined {
    return this.repositories.last;
  }

  readonly restore = async (input: Inputs['restore'], context: JobContext) => {
    const { result } = await this.jobs.run('restore', input.fence, context, async (tools) => {
      const backup = await this.find(input.fromProjectId, input.backupId);
      return restoreWhole(this.parts, input, backup, tools);
    });
    return complete(result);
  };

  readonly settle = ({ fence }: Inputs['settle']): Promise<{ placed: boolean }> =>
    this.jobs.whileEnded(fence.operationId, async () => {
      const { journal } = this.parts;
      const job = await journal.get(fence.operationId);
      if (job && job.fence.attempt > fence.attempt) {
        throw CoreErrors.STALE_ATTEMPT({ given: fence.attempt, current: job.fence.attempt });
      }
      const isActive = job?.state === 'pending' || job?.state === 'running';
      if (job && isActive) await this.end(job);
      const ended: BackupJob = (await journal.get(fence.operationId)) ?? {
        fence,
        kind: 'restore',
        state: 'failed',
        startedAt: Date.now(),
      };
      if (ended.state === 'succeeded') return { placed: true };
      await journal.put({ ...ended, fence, state: 'failed', givenUp: true });
      return { placed: false };
    });

  readonly restorePath = async (input: Inputs['restorePath'], context: JobContext) => {
    await this.parts.projects.authorize(input.fence);
    const { result } = await this.jobs.run('restore-path', input.fence, context, async (tools) => {
      const backup = await this.find(input.fromProjectId, input.backupId);
      return placePath(this.parts, input, backup, tools);
    });
    return complete(result);
  };

  /**
   * After a restart: a restore whose content was complete is finished; other work that was under way
   * has failed, and its volume is taken away. The operation that ordered it runs it again. Call
   * before calls are served, and now and then.
   * @throws AggregateError of what could not be settled; a later call tries that again
   */
  async recover(): Promise<void> {
    const failures: unknown[] = [];
    for (const job of await this.parts.journal.active()) {
      if (this.jobs.active().has(job.fence.operationId)) continue;
      // One that cannot be settled now stays as it is; the others must not wait for it.
      await this.end(job).catch((error: unknown) => failures.push(error));
    }
    if (failures.length > 0) throw new AggregateError(failures, 'jobs could not be settled');
  }

  private async end(job: BackupJob): Promise<void> {
    const { journal, storage, projects } = this.parts;
    const endedAt = Date.now();
    if (job.finishing) {
      const outcome = await finishRestore(this.parts, job);
      await journal.put({ ...job, ...outcome, state: 'succeeded', endedAt });
      return;
    }
    if (job.stagingId !== undefined) await storage.deleteVolume(job.stagingId);
    if (job.kind === 'restore') await projects.abandonRestore(job.fence);
    const error = BackupErrors.BACKUP_INTERRUPTED().toJSON();
    await journal.put({ ...job, state: 'failed', endedAt, error });
  }

  /** What storage's reconciler must leave alone: pictures and volumes of jobs under way. */
  async claims(): Promise<{
    frozen: { projectId: ProjectId; name: string }[];
    stagedPaths: { projectId: ProjectId; name: string }[];
    volumes: ProjectId[];
  }> {
    const jobs = await this.parts.journal.active();
    return {
      frozen: jobs
        .filter(({ kind }) => kind === 'backup')
        .map(({ fence }) => ({ projectId: fence.projectId, name: temporarySnapshotOf(fence) })),
      stagedPaths: jobs
        .filter(({ kind }) => kind === 'restore-path')
        .map(({ fence }) => ({ projectId: fence.projectId, name: fence.operationId })),
      volumes: jobs.flatMap(({ stagingId }) => (stagingId === undefined ? [] : [stagingId])),
    };
  }

  /** Aborts jobs under way; their operations come back. */
  async close(): Promise<void> {
    await this.jobs.close();
  }

  private async backUp(
    input: Inputs['run'],
    tags: readonly string[],
    tools: JobTools,
  ): Promise<JobOutcome> {
    const { signal, progress } = tools;
    const { driver, exec } = this.parts;
    const { fence, spec, name } = input;
    const host = hostOf(fence.projectId);
    if (tools.earlier?.stagingId !== undefined) {
      await this.parts.storage.deleteVolume(tools.earlier.stagingId);
    }
    const operationTag = `operation:${fence.operationId}`;
    await this.repositories.open();
    // The reply of an earlier attempt may have been lost after the repository had it all.
    // One that is to be verified is made anew: what it was made of is gone.
    const [made] = input.verify ? [] : await driver.list({ host, tag: operationTag });
    if (made) return { record: this.toRecord(made, fence.projectId) };

    await using picture = await this.picture(fence);
    const { folders, live } = picture;
    progress({ step: 'survey', done: 0, unit: 'files' });
    const { bytes, files, holed } = await survey(exec, folders, signal);
    // What changes while it is read cannot be left to two programs.
    const plan = planHoles(holed, live ? noArchives : undefined);
    const [about, sparse] = ['about', 'sparse'].map((folder) =>
      join(this.parts.workFolder, `${folder}-${fence.operationId}`),
    ) as [string, string];
    try {
      const facts = { projectId: fence.projectId, spec, bytes, files };
      await writeAbout(about, aboutOf({ ...facts, ...(name !== undefined && { name }) }, plan));
      await archiveHoled(exec, folders, plan, { target: sparse, signal });
      const stored = await driver.backup({
        folders: { ...folders, about, ...(plan.archivedFiles > 0 && { sparse }) },
        host,
        live,
        tags: [
          ...tags,
          operationTag,
          `bytes:${bytes}`,
          `files:${files}`,
          ...(name === undefined ? [] : [nameTag(name)]),
          ...(plan.archivedFiles > 0 ? [`${sparseTag}${plan.archivedFiles}`] : []),
        ],
        exclude: ['/project/.snapshots', ...archivedPaths(plan)],
        onProgress: progress,
        signal,
      });
      if (input.verify) await this.verify(stored, folders, tools);
      const record = this.toRecord(stored, fence.projectId);
      return { record: { ...record, verified: input.verify === true } };
    } finally {
      for (const path of [about, sparse]) await rm(path, { recursive: true, force: true });
    }
  }

  /** All that the repository holds of projects, in order. */
  private async everything(anew: boolean): Promise<BackupRecord[]> {
    const now = Date.now();
    if (anew || !this.listing || this.listing.readAt + listingMs < now) {
      await this.repositories.open();
      const backups = (await this.parts.driver.list({})).flatMap((stored) => {
        const projectId = projectOf(stored.host);
        return projectId === undefined ? [] : [this.toRecord(stored, projectId)];
      });
      this.listing = { readAt: now, backups: backups.sort(compareIds) };
    }
    return this.listing.backups;
  }

  /** A backup that cannot be read back must never be the latest. */
  private async verify(
    stored: StoredBackup,
    folders: BackupFolders,
    tools: JobTools,
  ): Promise<void> {
    try {
      await verifyBackup(this.parts, stored, folders, tools);
    } catch (error) {
      await this.parts.driver.forget(stored.id).catch(() => undefined);
      throw error;
    }
  }

  /** The project standing still, or its live files where the storage has no snapshots. */
  private async picture(
    fence: Fence,
  ): Promise<AsyncDisposable & { folders: BackupFolders; live: boolean }> {
    const frozen = await this.parts.storage.freeze(fence.projectId, temporarySnapshotOf(fence));
    return {
      folders: { project: frozen.root, persistence: frozen.persistence },
      live: frozen.live ?? false,
      [Symbol.asyncDispose]: () => frozen.release(),
    };
  }

  private async find(projectId: ProjectId, backupId: string): Promise<StoredBackup> {
    const { driver } = this.parts;
    await this.repositories.open();
    const backups = await driver.list({ host: hostOf(projectId) });
    const found = backups.find(({ id }) => id.startsWith(backupId));
    if (found) return found;
    throw BackupErrors.BACKUP_NOT_FOUND({ backupId, projectId, repository: driver.repository });
  }

  private toRecord(stored: StoredBackup, projectId: ProjectId): BackupRecord {
    const { driver } = this.parts;
    const { summary } = stored;
    return {
      backupId: stored.id,
      projectId,
      createdAt: new Date(stored.createdAt).toISOString(),
      driver: driver.name,
      repository: driver.repository,
      bytes: numberTag(stored, 'bytes') ?? summary?.bytes ?? 0,
      files: numberTag(stored, 'files') ?? summary?.files ?? 0,
      bytesAdded: summary?.bytesAdded ?? 0,
      durationMs: Math.max(0, summary?.durationMs ?? 0),
      tags: [...stored.tags],
    };
  }
}

const hostOf = (projectId: ProjectId): string => `project-${projectId}`;

/** Undefined where the backup is of something else: others may use the repository, too. */
function projectOf(host: string): ProjectId | undefined {
  if (!host.startsWith('project-')) return undefined;
  return ProjectId.safeParse(host.slice('project-'.length)).data;
}

type Ids = Pick<BackupRecord, 'projectId' | 'backupId'>;
const keyOf = ({ projectId, backupId }: Ids): string => `${projectId}/${backupId}`;
const compareIds = (a: Ids, b: Ids): number =>
  keyOf(a) < keyOf(b) ? -1 : Number(keyOf(a) > keyOf(b));

const temporarySnapshotOf = (fence: Fence): string => `backup-${fence.operationId}`;

function numberTag(stored: StoredBackup, name: string): number | undefined {
  const tag = stored.tags.find((text) => text.startsWith(`${name}:`));
  const value = tag === undefined ? NaN : Number(tag.slice(name.length + 1));
  return Number.isSafeInteger(value) ? value : undefined;
}

function complete<T>(value: T | undefined): T {
  if (value === undefined) throw BackupErrors.BACKUP_FAILED({ reason: 'the job left no result' });
  return value;
}

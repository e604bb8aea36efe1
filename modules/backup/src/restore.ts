import { lstat, mkdir, rm } from 'node:fs/promises';
import { join, posix } from 'node:path';
import { CoreErrors, formatBytes, GiB, MiB, newId, Reverter, type Exec } from '@rookery/core';
import type { ProjectId } from '@rookery/core/contract';
import type { Volume } from '@rookery/storage/contract';
import type { z } from 'zod';
import type { StoredBackup } from './backup.driver.js';
import { BackupErrors } from './backup.errors.js';
import type { BackupJob, BackupDependencies } from './backup.ports.js';
import type { hostBackups } from '@rookery/fleet/contract';
import type { JobOutcome, JobTools } from './job-runner.js';
import { archivedIn, digHoles, readAbout, survey, type AboutBackup } from './temporary-snapshot.js';
import { extractHoled } from './sparse-files.js';

/** Left free on the volume while a backup is restored. */
const reserveBytesMin = 256 * MiB;
const reservePart = 0.1;

export type RestoreDependencies = Omit<BackupDependencies, 'exec'> & { readonly exec: Exec };
type RestoreInput = z.output<(typeof hostBackups.methods.restore)['input']>;
type RestorePathInput = z.output<(typeof hostBackups.methods.restorePath)['input']>;

/**
 * Restores a whole project into a volume that nobody uses yet, and makes it the project's when it is
 * complete. Where the project has a volume already, a stand-in with an id of its own is filled and
 * then takes its place in one step: until then the old content is untouched.
 */
export async function restoreWhole(
  parts: RestoreDependencies,
  input: RestoreInput,
  backup: StoredBackup,
  tools: JobTools,
): Promise<JobOutcome> {
  const { storage, projects } = parts;
  const { fence, spec } = input;
  const { projectId } = fence;
  if (tools.earlier?.finishing) return finishRestore(parts, tools.earlier);
  await using revert = new Reverter();

  await projects.beginRestore(fence, spec);
  revert.add(() => projects.abandonRestore(fence));
  // What an earlier attempt half filled is of no use to anyone.
  if (tools.earlier?.stagingId !== undefined) await storage.deleteVolume(tools.earlier.stagingId);
  const exists = (await storage.volume(projectId)) !== undefined;
  if (exists && !input.replace) throw BackupErrors.RESTORE_TARGET_EXISTS({ projectId });
  const stagingId = exists ? newId() : projectId;
  // Written down before it exists: after a crash it is found and removed.
  await tools.note({ stagingId });
  revert.add(() => storage.deleteVolume(stagingId));

  const volume = await stagingVolume(parts, stagingId, spec.quota.diskBytes, backup);
  const about = await fill(parts, volume, backup, tools);
  if (about.projectId !== input.fromProjectId) {
    const reason = `it is of project ${about.projectId}`;
    throw BackupErrors.BACKUP_CONTENT_INVALID({ backupId: backup.id, reason });
  }
  if (exists && input.discard !== true) await refuseWithoutRoom(parts, input, stagingId);
  // From the note on this goes only forward: what it says is whole must be on disk before it.
  await storage.flush();
  tools.signal.throwIfAborted();
  const { bytes, files } = about;
  const finishing = { spec, bytes, files, discard: input.discard === true };
  await tools.note({ finishing });
  revert.success();
  return finishRestore(parts, { fence, stagingId, finishing });
}

/** The last part of a whole restore; every step of it may be repeated. */
export async function finishRestore(
  { storage, projects }: Pick<RestoreDependencies, 'storage' | 'projects'>,
  { fence, stagingId, finishing }: Pick<BackupJob, 'fence' | 'stagingId' | 'finishing'>,
): Promise<JobOutcome> {
  const { projectId } = fence;
  if (!finishing) throw BackupErrors.RESTORE_FAILED({ reason: 'its content is not complete' });
  const { spec, bytes, files, discard = false } = finishing;
  let kept: { previous?: string } = {};
  if (stagingId !== undefined && stagingId !== projectId) {
    kept = await storage.replaceVolume(stagingId, projectId, { discard });
  }
  if (storage.capabilities.quota !== 'none') {
    await storage.setQuota(projectId, spec.quota.diskBytes, { allowBelowUse: true });
  }
  await projects.adoptRestored(fence, spec);
  return { result: { bytes, files, ...kept } };
}

/**
 * What is replaced stays as a snapshot, in the project's quota together with what comes.
 * @throws RESTORE_NEEDS_DISCARD
 */
async function refuseWithoutRoom(
  { storage }: RestoreDependencies,
  { fence: { projectId }, spec }: RestoreInput,
  stagingId: ProjectId,
): Promise<void> {
  const { snapshots, quota } = storage.capabilities;
  if (!snapshots) {
    const reason = 'this host keeps no snapshots';
    throw BackupErrors.RESTORE_NEEDS_DISCARD({ projectId, reason });
  }
  if (quota === 'none') return;
  const here = (await storage.usage(projectId)).usedBytes;
  const coming = (await storage.usage(stagingId)).usedBytes;
  if (here + coming <= spec.quota.diskBytes) return;
  const [both, limit] = [here + coming, spec.quota.diskBytes].map(formatBytes);
  const reason = `with the backup that would be ${both}, and its quota is ${limit}`;
  throw BackupErrors.RESTORE_NEEDS_DISCARD({ projectId, reason });
}

/**
 * Room for the whole content while it arrives; the project's own limit is set last. Never all that
 * the volume has: what a program writes as zeros must not take it from the other projects.
 */
export async function stagingVolume(
  { storage }: RestoreDependencies,
  id: ProjectId,
  quotaBytes: number,
  backup: StoredBackup,
): Promise<Volume> {
  const wanted = Math.max(quotaBytes, (bytesOf(backup) ?? 0) * 2) + GiB;
  const { freeBytes } = await storage.space();
  const room = Math.max(0, freeBytes - Math.max(reserveBytesMin, freeBytes * reservePart));
  return storage.createVolume(id, { quotaBytes: Math.floor(Math.min(wanted, room)) });
}

export async function fill(
  parts: RestoreDependencies,
  { paths }: Volume,
  backup: StoredBackup,
  { signal, progress }: JobTools,
  options: { fresh?: boolean } = {},
): Promise<AboutBackup> {
  const { driver, exec } = parts;
  const scratch = join(parts.workFolder, `restore-${newId()}`);
  const [aboutFolder, sparse] = [join(scratch, 'about'), join(scratch, 'sparse')];
  for (const folder of [aboutFolder, sparse]) await mkdir(folder, { recursive: true });
  try {
    const expected = bytesOf(backup);
    const project = { project: paths.root, persistence: paths.persistence };
    await driver.restore({
      id: backup.id,
      folders: { ...project, about: aboutFolder, ...(hasArchives(backup) && { sparse }) },
      exclude: ['/project/.snapshots'],
      ...options,
      ...(expected !== undefined && { bytesExpected: expected }),
      onProgress: progress,
      signal,
    });
    const about = await readAbout(aboutFolder, backup.id);
    await extractHoled(exec, project, archivedIn(about), {
      from: sparse,
      backupId: backup.id,
      signal,
    });
    progress({ step: 'holes', done: 0, total: about.sparse.length, unit: 'files' });
    await digHoles(exec, project, about, { scratch, signal });
    return about;
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}

/** The note that lies in a backup beside the project. @throws BACKUP_CONTENT_INVALID */
export async function noteOf(
  { driver, workFolder }: Pick<RestoreDependencies, 'driver' | 'workFolder'>,
  backup: StoredBackup,
  signal: AbortSignal,
): Promise<AboutBackup> {
  const about = join(workFolder, `describe-${newId()}`);
  await mkdir(about, { recursive: true });
  try {
    await driver.restore({ id: backup.id, folders: { about }, signal });
    return await readAbout(about, backup.id);
  } finally {
    await rm(about, { recursive: true, force: true });
  }
}

/**
 * Restores one path under home. It is laid down beside the home first, where the project's processes
 * cannot reach it, and then changes places with what is there in one step.
 */
export async function placePath(
  parts: RestoreDependencies,
  input: RestorePathInput,
  backup: StoredBackup,
  { signal, progress }: JobTools,
): Promise<JobOutcome> {
  const from = cleanPath(input.path);
  const into = cleanPath(input.into ?? input.path);
  const volume = await parts.storage.volume(input.fence.projectId);
  if (!volume) throw CoreErrors.NOT_FOUND({ what: 'project', id: input.fence.projectId });
  await using staging = await parts.storage.stagePath(
    input.fence.projectId,
    input.fence.operationId,
  );
  try {
    await parts.driver.restore({
      id: backup.id,
      folders: { project: staging.folder },
      include: `/project/home/${from}`,
      onProgress: progress,
      signal,
    });
    const found = posix.join('home', from);
    if (hasArchives(backup)) {
      const target = { project: staging.folder };
      await extractPath(parts, { backup, target, path: found, signal });
    }
    await lstat(join(staging.folder, found)).catch((cause: unknown) => {
      const details = { backupId: backup.id, path: from };
      throw BackupErrors.BACKUP_PATH_NOT_FOUND(details, { cause });
    });
    const folders = { path: join(staging.folder, found) };
    const { bytes, files } = await survey(parts.exec, folders, signal);
    signal.throwIfAborted();
    await staging.place(found, into);
    return { result: { bytes, files } };
  } catch (error) {
    if (!isFull(error)) throw error;
    throw BackupErrors.RESTORE_DISK_FULL({}, { cause: error });
  }
}

/** What of the path lies in the backup's archives. */
async function extractPath(
  { driver, exec, workFolder }: RestoreDependencies,
  wanted: { backup: StoredBackup; target: { project: string }; path: string; signal: AbortSignal },
): Promise<void> {
  const { backup, target, path, signal } = wanted;
  const scratch = join(workFolder, `restore-${newId()}`);
  const folders = { about: join(scratch, 'about'), sparse: join(scratch, 'sparse') };
  for (const folder of Object.values(folders)) await mkdir(folder, { recursive: true });
  try {
    await driver.restore({ id: backup.id, folders, signal });
    const archived = archivedIn(await readAbout(folders.about, backup.id));
    const options = { from: folders.sparse, backupId: backup.id, signal, within: path };
    await extractHoled(exec, target, archived, options);
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}

/** @throws INVALID_INPUT for the home itself: that is a whole restore. */
function cleanPath(path: string): string {
  const clean = posix.normalize(path).replace(/\/$/, '');
  if (clean !== '.' && clean !== '' && !clean.startsWith('..')) return clean;
  throw CoreErrors.INVALID_INPUT({ reason: `"${path}" names no file or folder under home` });
}

/** Of a backup with archives of files with holes: how many files they hold. */
export const sparseTag = 'sparse:';

const hasArchives = ({ tags }: StoredBackup): boolean =>
  tags.some((tag) => tag.startsWith(sparseTag));

function isFull(error: unknown): boolean {
  const code = (error as NodeJS.ErrnoException).code;
  return code === 'ENOSPC' || code === 'EDQUOT';
}

export function bytesOf(backup: StoredBackup): number | undefined {
  const tag = backup.tags.find((text) => text.startsWith('bytes:'));
  return tag === undefined ? backup.summary?.bytes : Number(tag.slice('bytes:'.length));
}

import { readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import type { ProjectId } from '@rookery/core/contract';
import type { ContainerStatus } from '../container.driver.js';
import type { ProjectLink } from './network.plan.js';
import { isAlive } from './processes.js';

/** What a machine needs to find a running container again without asking podman. */
export interface ContainerHandle {
  readonly id: string;
  readonly pid: number;
}

const ContainerNote = z.object({
  generation: z.int(),
  address: z.string(),
  rescue: z.boolean(),
  /** When all of it was in place; none: its start has not ended, or was cut off. */
  startedAt: z.number().optional(),
});
/** What a container was made as. */
export type ContainerNote = z.output<typeof ContainerNote>;

const noteFile = 'container.json';

/** Where podman and its conmon leave what a container is known by. */
interface HandleFiles {
  readonly pidFile: string;
  readonly idFile: string;
}

/** @param folder the project's own; it goes with the container, at the latest at a reboot */
export async function writeNote(folder: string, note: ContainerNote): Promise<void> {
  const path = join(folder, noteFile);
  await writeFile(`${path}.new`, JSON.stringify(note), { mode: 0o600 });
  await rename(`${path}.new`, path);
}

async function readNote(folder: string): Promise<ContainerNote | undefined> {
  const text = await readFile(join(folder, noteFile), 'utf8').catch(() => undefined);
  return text === undefined ? undefined : ContainerNote.parse(JSON.parse(text));
}

/** A project's container, if its first process lives. */
export async function readHandle(files: HandleFiles): Promise<ContainerHandle | undefined> {
  const [pidText, containerId] = await Promise.all([
    readFile(files.pidFile, 'utf8').catch(() => ''),
    readFile(files.idFile, 'utf8').catch(() => ''),
  ]);
  const pid = Number(pidText);
  if (!Number.isInteger(pid) || pid < 2 || containerId === '') return undefined;
  // The number could be another process by now: its cgroup tells.
  const cgroup = await readFile(`/proc/${pid}/cgroup`, 'utf8').catch(() => '');
  if (!cgroup.includes(containerId.trim()) || !(await isAlive(pid))) return undefined;
  return { id: containerId.trim(), pid };
}

/**
 * What files and the kernel say of a project's container.
 *
 * podman is not asked: its list takes every container's lock in turn, and the lock of one that is
 * being started is held until that has come to an end, however long a project makes it take.
 */
export async function readStatus(
  projectId: ProjectId,
  folder: string,
  files: HandleFiles,
  link: ProjectLink | undefined,
): Promise<ContainerStatus | undefined> {
  const note = await readNote(folder);
  if (!note) return undefined;
  const { generation, address, rescue, startedAt } = note;
  const common = { projectId, generation, address, rescue };
  if (startedAt === undefined) return { ...common, state: 'created' };
  if (!(await readHandle(files))) return { ...common, state: 'exited' };
  // Without its link it can be reached by nobody.
  const state = link?.address === address ? 'running' : 'broken';
  return { ...common, state, startedAt, ...(link && { linkIndex: link.index }) };
}

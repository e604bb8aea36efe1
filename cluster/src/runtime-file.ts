import { link, rm } from 'node:fs/promises';
import { CoreErrors, identifyProcess, isProcessAlive } from '@rookery/core';
import { z } from 'zod';
import { ClusterErrors } from './cluster.errors.js';
import { readJsonFile, writeJsonFile, type ClusterPaths } from './cluster-file.js';

const Identity = z.object({ pid: z.int(), startTicks: z.int(), bootId: z.string() });

/** One supervised process, as the supervisor saw it last. */
export const PartStatus = z.object({
  name: z.string(),
  identity: Identity.nullable(),
  restarts: z.int(),
  log: z.string(),
});
export type PartStatus = z.infer<typeof PartStatus>;

/** `supervisor.json`: who supervises the cluster, and what it runs. */
export const RuntimeFile = z.object({
  supervisor: Identity,
  startedAt: z.iso.datetime(),
  state: z.enum(['starting', 'ready', 'stopping']),
  parts: z.array(PartStatus),
});
export type RuntimeFile = z.infer<typeof RuntimeFile>;

export const readRuntime = (paths: ClusterPaths): Promise<RuntimeFile | undefined> =>
  readJsonFile(paths.runtime, RuntimeFile);

/** The supervisor that runs now, if one does. */
export async function runningSupervisor(paths: ClusterPaths): Promise<RuntimeFile | undefined> {
  const runtime = await readRuntime(paths);
  return runtime && (await isProcessAlive(runtime.supervisor)) ? runtime : undefined;
}

/**
 * Makes this process the cluster's only supervisor.
 * @throws CLUSTER_RUNNING
 */
export async function claimRuntime(paths: ClusterPaths, now: Date): Promise<RuntimeFile> {
  const supervisor = await identifyProcess(process.pid);
  if (!supervisor) throw CoreErrors.INTERNAL({ reason: 'this process has no entry in /proc' });
  const claim: RuntimeFile = {
    supervisor,
    startedAt: now.toISOString(),
    state: 'starting',
    parts: [],
  };
  const staged = `${paths.runtime}.${process.pid}.claim`;
  await writeJsonFile(staged, claim);
  try {
    for (;;) {
      // A link appears whole and only once: of two that try at the same time one fails.
      const linked = await link(staged, paths.runtime).then(
        () => true,
        (error: NodeJS.ErrnoException) => {
          if (error.code === 'EEXIST') return false;
          throw error;
        },
      );
      if (linked) return claim;
      const running = await runningSupervisor(paths);
      if (running) {
        const { pid } = running.supervisor;
        throw ClusterErrors.CLUSTER_RUNNING({ dataDir: paths.dataDir, pid });
      }
      await rm(paths.runtime, { force: true });
    }
  } finally {
    await rm(staged, { force: true });
  }
}

import { readFile, rm } from 'node:fs/promises';
import { isProcessAlive, waitFor, writeFileAtomic, type ProcessIdentity } from '@rookery/core';
import { z } from 'zod';

const Identity = z.object({ pid: z.int(), startTicks: z.number(), bootId: z.string() });
const Processes = z.object({
  supervisor: Identity,
  children: z.record(z.string(), Identity).default({}),
});
export type Processes = z.infer<typeof Processes>;

/** Remembers, across SIGKILL, who was running for this data folder. */
export class ProcessFile {
  constructor(private readonly path: string) {}

  async read(): Promise<Processes | undefined> {
    try {
      return Processes.parse(JSON.parse(await readFile(this.path, 'utf8')));
    } catch {
      return undefined; // none, or torn by a crash: nobody to be found by it
    }
  }

  async write(processes: Processes): Promise<void> {
    await writeFileAtomic(this.path, JSON.stringify(processes));
  }

  async remove(): Promise<void> {
    await rm(this.path, { force: true });
  }
}

/** Ends a process that a supervisor before us left, with all in its group, and waits for its end. */
export async function endOrphan(identity: ProcessIdentity, graceMs = 10_000): Promise<void> {
  if (!(await isProcessAlive(identity))) return;
  signalGroup(identity.pid, 'SIGTERM');
  const gone = async (): Promise<boolean> => !(await isProcessAlive(identity));
  try {
    await waitFor('the process has ended', gone, { timeoutMs: graceMs });
  } catch {
    signalGroup(identity.pid, 'SIGKILL');
    await waitFor('the process has ended', gone, { timeoutMs: 5_000 });
  }
}

function signalGroup(pid: number, signal: NodeJS.Signals): void {
  for (const target of [-pid, pid]) {
    try {
      process.kill(target, signal);
    } catch {
      // It has just ended, or leads no group.
    }
  }
}

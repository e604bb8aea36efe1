import { readdir, readFile } from 'node:fs/promises';

/** Signals the process group that `leader` leads; gone already: nothing to do. */
export function signalGroup(leader: number, signal: NodeJS.Signals): void {
  try {
    process.kill(-leader, signal);
  } catch {
    // ESRCH: it has ended.
  }
}

/** Kills every process of the session that `leader` leads, whatever group it has moved to. */
export async function killSession(leader: number): Promise<void> {
  for (const entry of await readdir('/proc')) {
    if (!/^\d+$/.test(entry)) continue;
    const session = await sessionOf(Number(entry));
    if (session !== leader) continue;
    try {
      process.kill(Number(entry), 'SIGKILL');
    } catch {
      // ESRCH: it has ended.
    }
  }
}

export async function isAlive(pid: number): Promise<boolean> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '');
  return stat !== '' && fieldsAfterName(stat)[0] !== 'Z';
}

async function sessionOf(pid: number): Promise<number | undefined> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '');
  return stat === '' ? undefined : Number(fieldsAfterName(stat)[3]);
}

/** proc(5): pid (name) state ppid pgrp session …; the name may hold spaces and parentheses. */
function fieldsAfterName(stat: string): string[] {
  return stat.slice(stat.lastIndexOf(')') + 2).split(' ');
}

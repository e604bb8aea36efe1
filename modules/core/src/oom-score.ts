import { readFileSync, writeFileSync } from 'node:fs';

/**
 * `oom_score_adj` (proc(5), -1000 to 1000): when memory runs out, the kernel ends what has the
 * highest score. Projects' containers have 300.
 */
export const oomScore = {
  /** Hub, agent, ingress, Postgres: what runs and reaches everything else. */
  service: -500,
  ordinary: 0,
  /** What is tried again later, a backup say: before any project. */
  expendable: 600,
} as const;

/**
 * Protects this process. What it starts by an `Exec` is not protected with it.
 * @returns why it is not; a machine without CAP_SYS_RESOURCE lowers no score
 */
export function protectFromOom(): string | undefined {
  try {
    if (read() > oomScore.service) write(oomScore.service);
    return undefined;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'EACCES' || code === 'EPERM') return 'the capability CAP_SYS_RESOURCE is missing';
    return `oom_score_adj cannot be written (${code ?? (error as Error).message})`;
  }
}

/**
 * Calls what spawns a child at once, so that it has at least this score. A child has its parent's and
 * hands it on: to set it afterwards would come too late for what it has started by then. So this process
 * has the score itself for that moment. Raising, and going back, needs no capability.
 */
export function spawnWithScore<T>(spawn: () => T, wanted: number = oomScore.ordinary): T {
  const before = readOwn();
  if (before === undefined || before >= wanted || !writeOwn(wanted)) return spawn();
  try {
    return spawn();
  } finally {
    writeOwn(before);
  }
}

/** Undefined where there is no /proc. */
function readOwn(): number | undefined {
  try {
    return read();
  } catch {
    return undefined;
  }
}

function writeOwn(score: number): boolean {
  try {
    write(score);
    return true;
  } catch {
    return false;
  }
}

const file = '/proc/self/oom_score_adj';
const read = (): number => Number(readFileSync(file, 'utf8'));
const write = (score: number): void => writeFileSync(file, String(score));

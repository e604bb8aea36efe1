import { access, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { SystemExec, type SpawnedProcess } from '@rookery/core';
import type { Level, Tally } from './tally.js';

interface JestReport {
  numPassedTests: number;
  numFailedTests: number;
  numPendingTests: number;
  numTodoTests: number;
  /** Files that could not even run. */
  numRuntimeErrorTestSuites: number;
}

/** How long jest may go on after it has written its report. */
const lingerMs = 20_000;

/**
 * Runs the jest projects of some levels. Tests of real parts share one machine's podman, btrfs and
 * cores, so only unit tests run two files at a time; see the suite for what may run beside them.
 */
export async function runJest(
  root: string,
  projects: readonly Level[],
  args: readonly string[],
): Promise<Tally> {
  const folder = await mkdtemp(join(tmpdir(), 'rookery-jest-'));
  const output = join(folder, 'report.json');
  const workers = projects.includes('e2e') || projects.includes('integration') ? '1' : '2';
  const process_ = new SystemExec().spawn(
    [
      process.execPath,
      '--experimental-vm-modules',
      '--no-warnings=ExperimentalWarning',
      join(root, 'node_modules/jest/bin/jest.js'),
      '--selectProjects',
      ...projects,
      `--maxWorkers=${workers}`,
      '--workerIdleMemoryLimit=1500MB',
      '--json',
      `--outputFile=${output}`,
      '--passWithNoTests',
      ...args,
    ],
    { cwd: root, env: { NODE_OPTIONS: '--experimental-vm-modules --no-warnings' } },
  );
  process_.stdin.end();
  // With --json jest prints the report on stdout too; people read stderr.
  process_.stdout.resume();
  process_.stderr.pipe(process.stdout, { end: false });
  const end = await endOf(process_, output);
  try {
    const report = JSON.parse(await readFile(output, 'utf8')) as JestReport;
    return {
      passed: report.numPassedTests,
      failed: report.numFailedTests + report.numRuntimeErrorTestSuites,
      skipped: report.numPendingTests + report.numTodoTests,
    };
  } catch {
    process.stdout.write(`jest gave no report (exit ${String(end.exit ?? end.signal)})\n`);
    return { passed: 0, failed: 1, skipped: 0 };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** Jest writes its report when all is done; a handle that a test forgot must not hold up the suite. */
async function endOf(
  jest: SpawnedProcess,
  report: string,
): Promise<Awaited<SpawnedProcess['ended']>> {
  let reportedMs = Infinity;
  const timer = setInterval(() => {
    if (Date.now() - reportedMs > lingerMs) {
      process.stdout.write(
        'jest did not end by itself after its report: something is still open\n',
      );
      jest.kill('SIGKILL');
    } else if (reportedMs === Infinity) {
      access(report).then(
        () => (reportedMs = Math.min(reportedMs, Date.now())),
        () => undefined,
      );
    }
  }, 1_000);
  try {
    return await jest.ended;
  } finally {
    clearInterval(timer);
  }
}

import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { SystemExec } from '@rookery/core';
import type { Level, Tally } from './tally.js';

interface JestReport {
  numPassedTests: number;
  numFailedTests: number;
  numPendingTests: number;
  numTodoTests: number;
  /** Files that could not even run. */
  numRuntimeErrorTestSuites: number;
}

/**
 * Runs the jest projects of some levels. Tests of real parts share one machine's podman, btrfs and
 * cores, so only unit tests run two files at a time.
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
  const end = await process_.ended;
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

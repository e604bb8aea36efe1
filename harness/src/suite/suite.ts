import { join } from 'node:path';
import { SystemExec } from '@rookery/core';
import { leftoversSince, takeInventory } from '../checkers/leftovers.js';
import { runBare } from './bare.js';
import { checks } from './checks.js';
import { runJest } from './jest-run.js';
import { levels, type Level, type Tally } from './tally.js';

const usage = `usage: ./rookery test [${levels.join('|')}] [-- jest arguments]

Without a level: static checks, unit, integration and e2e tests, and at the end a look whether
anything was left behind. "bare" tries the README on fresh Debian machines and runs alone;
after "--" it takes releases (bookworm, trixie) and "up" to leave out the tests inside.
"-- --long" gives random and fault tests minutes instead of seconds; "e2e -- --long" runs all of
those, wherever they are. ROOKERY_TEST_SEED repeats a run.
`;

/** Tests of an integration level whose worth grows with the time that they have. */
const longTests = 'modules/(conat|jetstream)/test/(property|durability|jetstream-random)';

/** Packages whose tests use the machine itself: podman, btrfs, networks, cgroups. One at a time. */
const machineTests = '/(appliance|cluster|modules/(backup|move|proxy|runner|storage))/test/';

/** Beside them run those that need sockets, Postgres and other servers only. */
const integrationLanes = [
  ['--testPathPatterns', machineTests],
  ['--testPathIgnorePatterns', machineTests],
] as const;

/** Repository root: this file is harness/dist/suite/suite.js. */
const repositoryRoot = join(import.meta.dirname, '..', '..', '..');

/** Runs the suite, says what failed, and ends with the line `N passed, N failed`. */
export async function runSuite(args: readonly string[]): Promise<number> {
  const separator = args.indexOf('--');
  const own = separator < 0 ? args : args.slice(0, separator);
  const given = separator < 0 ? [] : args.slice(separator + 1);
  const jestArgs = given.filter((arg) => arg !== '--long');
  const long = jestArgs.length < given.length;
  if (long) process.env.ROOKERY_TEST_LONG = '1';
  const level = own[0] as Level | undefined;
  if (own.length > 1 || (level !== undefined && !levels.includes(level))) {
    const asked = own[0] === '--help' || own[0] === '-h';
    (asked ? process.stdout : process.stderr).write(usage);
    return asked ? 0 : 2;
  }
  const tally: Tally = { passed: 0, failed: 0, skipped: 0 };
  if (level === 'bare') add(tally, await runBare(repositoryRoot, jestArgs));
  else if (level) add(tally, await runJest(repositoryRoot, [level], jestArgs));
  else await runAll(tally, jestArgs);
  if (level === 'e2e' && long) {
    add(tally, await runJest(repositoryRoot, ['integration'], ['--', longTests]));
  }
  const skipped = tally.skipped > 0 ? `, ${tally.skipped} skipped` : '';
  process.stdout.write(`\n${tally.passed} passed, ${tally.failed} failed${skipped}\n`);
  return tally.failed > 0 || tally.passed === 0 ? 1 : 0;
}

async function runAll(tally: Tally, jestArgs: readonly string[]): Promise<void> {
  const exec = new SystemExec();
  const before = await takeInventory(exec);
  for (const check of checks(repositoryRoot, exec)) {
    const problem = await check.run();
    report(check.name, problem);
    add(tally, problem === undefined ? { passed: 1 } : { failed: 1 });
  }
  add(tally, await runJest(repositoryRoot, ['unit'], jestArgs));
  // Arguments may be patterns of their own, which jest would add to a lane's.
  const lanes = jestArgs.length > 0 ? [jestArgs] : integrationLanes;
  for (const each of await Promise.all(
    lanes.map((lane) => runJest(repositoryRoot, ['integration'], lane)),
  )) {
    add(tally, each);
  }
  add(tally, await runJest(repositoryRoot, ['e2e'], jestArgs));
  const left = leftoversSince(before, await takeInventory(exec));
  report('nothing is left behind', left.length > 0 ? left.join('\n') : undefined);
  add(tally, left.length > 0 ? { failed: 1 } : { passed: 1 });
}

function report(name: string, problem: string | undefined): void {
  process.stdout.write(problem === undefined ? `PASS ${name}\n` : `FAIL ${name}\n${problem}\n`);
}

function add(tally: Tally, more: Partial<Tally>): void {
  tally.passed += more.passed ?? 0;
  tally.failed += more.failed ?? 0;
  tally.skipped += more.skipped ?? 0;
}

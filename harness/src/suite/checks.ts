import { glob, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { toCodedError, type Exec } from '@rookery/core';

export interface Check {
  readonly name: string;
  /** What is wrong, or undefined. */
  run(): Promise<string | undefined>;
}

const checkTimeoutMs = 10 * 60_000;

/** The static checks, cheapest first. */
export function checks(root: string, exec: Exec): Check[] {
  const bin = (path: string): string => join(root, 'node_modules', path);
  const tool = (name: string, ...args: string[]): Check => ({
    name,
    run: () => problemOf(exec, root, args),
  });
  return [
    tool('types (tsc -b)', bin('@typescript/native/bin/tsc'), '-b'),
    tool(
      'format (prettier)',
      bin('prettier/bin/prettier.cjs'),
      '--check',
      '--log-level',
      'warn',
      '.',
    ),
    tool('lint (eslint)', bin('eslint/bin/eslint.js'), '.', '--max-warnings', '0'),
    { name: 'layers (dependency-cruiser)', run: () => layers(exec, root) },
    tool('dead code (knip)', bin('knip/bin/knip.js'), '--no-progress'),
    tool('docs/ERRORS.md is current', join(root, 'harness/dist/docs/errors.js'), '--check'),
  ];
}

async function problemOf(exec: Exec, cwd: string, args: string[]): Promise<string | undefined> {
  try {
    const { exit, stdout, stderr } = await exec.run([process.execPath, ...args], {
      cwd,
      timeoutMs: checkTimeoutMs,
      okExits: Array.from({ length: 256 }, (_, n) => n),
    });
    return exit === 0 ? undefined : `${stdout}${stderr}`.trim() || `exit ${exit}`;
  } catch (error) {
    return toCodedError(error).message;
  }
}

/** Doors of packages that the cruise takes for a stranger's: it would see no import of them. */
async function unknownDoors(root: string): Promise<string[]> {
  const read = async (path: string): Promise<unknown> =>
    JSON.parse(await readFile(join(root, path), 'utf8'));
  const { compilerOptions } = (await read('tsconfig.depcruise.json')) as {
    compilerOptions: { paths: Record<string, unknown> };
  };
  const doors: string[] = [];
  for await (const path of glob('modules/*/package.json', { cwd: root })) {
    const manifest = (await read(path)) as { name: string; exports: Record<string, unknown> };
    const further = Object.keys(manifest.exports).filter((door) => door !== '.');
    doors.push(...further.map((door) => `${manifest.name}${door.slice(1)}`));
  }
  return doors.filter((door) => !(door in compilerOptions.paths));
}

/** A cruise that saw fewer files or doors than there are would prove nothing. */
async function layers(exec: Exec, root: string): Promise<string | undefined> {
  const folders = ['modules', 'hub', 'appliance', 'cluster', 'harness', 'e2e'];
  try {
    const unknown = await unknownDoors(root);
    if (unknown.length > 0) return `not in tsconfig.depcruise.json: ${unknown.join(', ')}`;
    const { stdout, exit } = await exec.run(
      [
        process.execPath,
        join(root, 'node_modules/dependency-cruiser/bin/dependency-cruiser.mjs'),
        '--config',
        '.dependency-cruiser.cjs',
        '--output-type',
        'json',
        ...folders,
      ],
      { cwd: root, timeoutMs: checkTimeoutMs, okExits: Array.from({ length: 256 }, (_, n) => n) },
    );
    const report = JSON.parse(stdout) as {
      summary: {
        totalCruised: number;
        violations: { from: string; to: string; rule: { name: string } }[];
      };
    };
    let files = 0;
    for (const folder of folders) {
      for await (const path of glob(`${folder}/**/*.ts`, { cwd: root })) {
        if (!/(^|\/)(dist|node_modules)\//.test(path)) files += 1;
      }
    }
    const { totalCruised, violations } = report.summary;
    if (totalCruised < files) return `cruised ${totalCruised} of ${files} files`;
    if (violations.length === 0 && exit === 0) return undefined;
    return (
      violations.map((v) => `${v.rule.name}: ${v.from} -> ${v.to}`).join('\n') || `exit ${exit}`
    );
  } catch (error) {
    return toCodedError(error).message;
  }
}

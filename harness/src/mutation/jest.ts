import { join } from 'node:path';
import { CodedError, SystemExec } from '@rookery/core';
import type { FileMutant, TransformOptions } from './transform.js';

/** A mutant may make a test wait for what never comes. */
const testTimeoutMs = 20_000;
/** A run of the tests may take this much longer than it took without a mutant, and this besides. */
const slowerMax = 4;
const slackMs = 30_000;
const firstRunMsMax = 600_000;

export type Verdict = 'survived' | 'killed' | 'timeout';

interface JestConfig {
  readonly projects: readonly {
    readonly transform: Readonly<Record<string, readonly [string, TransformOptions['swc']]>>;
    readonly testMatch: readonly string[];
  }[];
}

/** Runs test files on the sources with one change, each run a process of its own. */
export class MutantJest {
  private readonly exec = new SystemExec();
  private readonly normalMs = new Map<string, number>();

  private constructor(
    private readonly root: string,
    private readonly base: JestConfig['projects'][number],
  ) {}

  static async of(root: string): Promise<MutantJest> {
    const { default: config } = (await import(join(root, 'jest.config.js'))) as {
      default: JestConfig;
    };
    const [base] = config.projects;
    if (!base) throw new TypeError('jest.config.js names no project');
    return new MutantJest(root, base);
  }

  /** What the tests say without a mutant; they must pass, or nothing can be said. */
  async prove(tests: readonly string[]): Promise<boolean> {
    const key = tests.join();
    if (this.normalMs.has(key)) return true;
    const start = Date.now();
    if ((await this.run(tests, undefined, firstRunMsMax)) !== 'survived') return false;
    this.normalMs.set(key, Date.now() - start);
    return true;
  }

  /** Whether the tests notice the mutant. */
  try(tests: readonly string[], mutant: FileMutant): Promise<Verdict> {
    const normalMs = this.normalMs.get(tests.join()) ?? 0;
    return this.run(tests, mutant, normalMs * slowerMax + slackMs);
  }

  private async run(
    tests: readonly string[],
    mutant: FileMutant | undefined,
    timeoutMs: number,
  ): Promise<Verdict> {
    const argv = [
      process.execPath,
      '--experimental-vm-modules',
      '--no-warnings=ExperimentalWarning',
      join(this.root, 'node_modules/jest/bin/jest.js'),
      `--config=${JSON.stringify(this.configOf(tests, mutant))}`,
      '--runInBand',
      '--bail=1',
      '--silent',
      '--forceExit',
    ];
    const env = { NODE_OPTIONS: '--experimental-vm-modules --no-warnings' };
    try {
      const { exit } = await this.exec.run(argv, {
        cwd: this.root,
        env,
        timeoutMs,
        okExits: [0, 1],
      });
      return exit === 0 ? 'survived' : 'killed';
    } catch (error) {
      // A mutant may also bring the process down.
      if (CodedError.is(error) && error.code === 'COMMAND_FAILED') return 'killed';
      if (CodedError.is(error) && error.code === 'TIMEOUT') return 'timeout';
      throw error;
    }
  }

  private configOf(tests: readonly string[], mutant: FileMutant | undefined): object {
    const { base, root } = this;
    const here = import.meta.dirname;
    const [[pattern, [, swc]]] = Object.entries(base.transform) as [
      [string, [string, TransformOptions['swc']]],
    ];
    const absolute = mutant && { ...mutant, file: join(root, mutant.file) };
    return {
      ...base,
      id: 'rookery-mutation',
      displayName: undefined,
      testMatch: tests.map((test) => join(root, test)),
      transform: { [pattern]: [join(here, 'transform.js'), { swc, mutant: absolute }] },
      testEnvironment: join(here, 'first-failure.js'),
      testTimeout: testTimeoutMs,
    };
  }
}

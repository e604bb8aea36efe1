import { cp, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { SystemExec } from '@rookery/core';
import { FakeHost } from './support/fake-host.js';
import { startPostgres, type TestPostgres } from './support/postgres.js';
import { TestHub } from './support/test-hub.js';

const exec = new SystemExec();
const programs = join(import.meta.dirname, 'clients');
const root = join(import.meta.dirname, '..', '..');
const cache = process.env['ROOKERY_CACHE'] ?? '/var/cache/rookery';
const python = join(cache, 'api-python', 'bin', 'python');
const timeoutMs = 120_000;
/** ./rookery test brings it; says why where that could not be. */
const isPythonThere = await exec.run([python, '-c', 'import openapi_python_client']).then(
  () => true,
  () => false,
);

let postgres: TestPostgres;
let hub: TestHub;
let host: FakeHost;
let folder: string;
let document: string;

beforeAll(async () => {
  postgres = await startPostgres();
  hub = await TestHub.start(postgres.url);
  host = await FakeHost.join({ name: 'h1', hubUrl: hub.url, joinToken: await hub.joinToken() });
  folder = await mkdtemp(join(tmpdir(), 'rookery-clients-'));
  document = join(folder, 'openapi.json');
  const served = await fetch(`${hub.url}/api/openapi.json`);
  await writeFile(document, await served.text());
});
afterAll(async () => {
  await host?.disconnect();
  await hub?.close();
  await postgres?.close();
  await rm(folder, { recursive: true, force: true });
});

const lived = (language: string): string[] => [
  `from ${language}`,
  'project.create succeeded',
  'project.start succeeded',
  '409 PROJECT_RUNNING',
  'project.delete succeeded',
  '0',
];

async function linesOf(argv: readonly string[]): Promise<string[]> {
  const { stdout } = await exec.run([...argv], { timeoutMs });
  return stdout.toString().trim().split('\n');
}

/** Strict, and with the generated sources and everything of theirs checked. */
const tsconfig = {
  compilerOptions: {
    module: 'nodenext',
    target: 'es2023',
    lib: ['es2023', 'dom', 'dom.iterable'],
    strict: true,
    skipLibCheck: false,
    rootDir: 'src',
    outDir: 'dist',
    types: ['node'],
    typeRoots: [join(root, 'node_modules', '@types')],
  },
  include: ['src'],
};

describe('the OpenAPI document', () => {
  it('is valid, and makes a TypeScript client that creates, starts and deletes', async () => {
    const at = join(folder, 'typescript');
    await mkdir(join(at, 'src'), { recursive: true });
    await writeFile(join(at, 'package.json'), JSON.stringify({ type: 'module' }));
    await writeFile(join(at, 'tsconfig.json'), JSON.stringify(tsconfig));
    const prepare = join(programs, 'prepare.mjs');
    await exec.run([process.execPath, prepare, document, join(at, 'src', 'client')], { timeoutMs });
    await cp(join(programs, 'drive.ts.txt'), join(at, 'src', 'drive.ts'));
    const tsc = join(root, 'node_modules', '@typescript', 'native', 'bin', 'tsc');
    await exec.run([process.execPath, tsc, '-p', at], { timeoutMs });
    const drive = join(at, 'dist', 'drive.js');
    const lines = await linesOf([process.execPath, drive, hub.url, hub.admin.token]);
    expect(lines).toEqual(lived('TypeScript'));
  });

  (isPythonThere ? it : it.skip)(
    'makes a Python client without a warning, whose answers are typed',
    async () => {
      const at = join(folder, 'rookery_api');
      const config = join(folder, 'config.yml');
      // Formatting is nobody's business here.
      await writeFile(config, 'post_hooks: []\n');
      const said = await exec.run(
        [
          python,
          '-m',
          'openapi_python_client',
          'generate',
          '--meta',
          'none',
          '--path',
          document,
          '--output-path',
          at,
          '--config',
          config,
          '--fail-on-warning',
        ],
        { timeoutMs },
      );
      expect(said.stdout.toString()).not.toMatch(/WARNING|Unable/i);
      const drive = join(programs, 'drive.py');
      const lines = await linesOf([python, drive, folder, hub.url, hub.admin.token]);
      expect(lines).toEqual(lived('Python'));
    },
  );
});

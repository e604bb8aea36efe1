import { existsSync } from 'node:fs';
import { cp, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { SystemExec } from '@rookery/core';

const root = fileURLToPath(new URL('../..', import.meta.url));
const exec = new SystemExec();
const names = [
  'core',
  'conat',
  'rpc',
  'jetstream',
  'fleet',
  'storage',
  'runner',
  'proxy',
  'backup',
  'move',
  'api',
  'client',
  'cli',
];
const installMs = 90_000;

interface Manifest {
  readonly exports: Record<string, unknown>;
  readonly dependencies?: Record<string, string>;
  readonly peerDependencies?: Record<string, string>;
  readonly engines?: { readonly node?: string };
  readonly repository?: { readonly directory?: string };
  readonly license?: string;
}

/** What an integrator writes who has no podman at hand and no hub. */
const main = `
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { wsconnect } from '@nats-io/nats-core';
import { jetstream, jetstreamManager } from '@nats-io/jetstream';
import { RookeryClient } from '@rookery/client';
import { Reverter, SystemExec, catalogue } from '@rookery/core';
import { isPublic, routes } from './api/routes.js';
import { keepBackups } from './backup/keep-backups.js';
import { rookery } from './cli/in-process.js';
import { firstProject } from './client/first-project.js';
import { greet, startExample } from './conat/app.js';
import { whereIs } from './fleet/network.js';
import { startBroker } from './jetstream/persistence.js';
import { run } from './move/two-hosts.js';
import { startHostApp } from './proxy/host-app.js';
import { greet as callGreeting } from './rpc/greeting.js';
import { hello } from './runner/app.js';
import { keepProjects } from './storage/keep-projects.js';

const folder = await mkdtemp(join(tmpdir(), 'rookery-app-'));
const said: Record<string, unknown> = {};
await using reverter = new Reverter();
reverter.add(() => rm(folder, { recursive: true, force: true }));

const Errors = catalogue('mine', { NO_VOLUME: { status: 404, message: 'No volume {name}.' } });
said['core'] = [Errors.NO_VOLUME({ name: 'x' }).message,
  (await new SystemExec().run(['echo', 'hi'], { timeoutMs: 5000 })).stdout.trim()];
said['storage'] = await keepProjects({ volume: join(folder, 'volume'), driver: 'directory' });
said['backup'] = await keepBackups();
said['move'] = (await run()).files;

const app = await startExample(0);
reverter.add(() => app.close());
said['conat'] = await greet(app, (await app.getUrl()).replace('http', 'ws') + '/conat', 'world');
const broker = await startBroker(join(folder, 'streams'), 0);
reverter.add(() => broker.close());
const nats = await wsconnect({
  servers: (await broker.getUrl()).replace('http', 'ws') + '/conat',
  token: 'open sesame',
});
await (await jetstreamManager(nats)).streams.add({ name: 's', subjects: ['s.>'] });
said['jetstream'] = (await jetstream(nats).publish('s.x')).seq;
await nats.close();

said['rpc'] = (await callGreeting('world')).text;
said['fleet'] = (await whereIs()).stranger;

const host = await startHostApp('h', []);
reverter.add(() => host.app.close());
said['proxy'] = await (await fetch(host.url + '/healthz')).text();

said['api'] = [routes().length > 50, isPublic('getHealth')];
said['cli'] = ((await rookery('completion', 'bash')) as { shell: string }).shell;

// These need podman and a hub: that they load and are typed is what there is to see here.
said['runner'] = typeof hello;
said['client'] = [typeof firstProject, typeof RookeryClient];
console.log(JSON.stringify(said));
`;

/** The one that came with Node: a machine's own may be years older, and not know such overrides. */
const npm = [
  process.execPath,
  join(process.env.ROOKERY_CACHE ?? '/var/cache/rookery', 'node24/node_modules/npm/bin/npm-cli.js'),
];
let folder: string;
let app: string;
const tarballs = new Map<string, string>();
const run = (argv: string[], cwd = app) =>
  exec.run(argv, { cwd, timeoutMs: installMs, okExits: [0, 1] });
const npmInstall = (more: string[], cwd = app) =>
  run([...npm, 'install', '--prefer-offline', '--no-audit', '--no-fund', ...more], cwd);

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'rookery-packages-'));
  app = join(folder, 'app');
  const packed = join(folder, 'packed');
  await mkdir(packed);
  await mkdir(join(app, 'src'), { recursive: true });
  const workspaces = names.flatMap((name) => ['-w', `modules/${name}`]);
  const pack = [...npm, 'pack', '--silent', '--ignore-scripts', '--pack-destination', packed];
  await exec.run([...pack, ...workspaces], { cwd: root, timeoutMs: installMs });
  for (const file of await readdir(packed)) {
    tarballs.set(/^rookery-(\w+)-/.exec(file)?.[1] ?? file, join(packed, file));
  }
  await writeFile(join(app, 'package.json'), manifestOf('^12.0.0'));
  const { exit, stderr } = await npmInstall(['--ignore-scripts']);
  if (exit !== 0) throw new Error(stderr);
}, installMs);
afterAll(() => rm(folder, { recursive: true, force: true }));

function manifestOf(nest: string): string {
  const ours = [...tarballs].map(([name, file]) => [`@rookery/${name}`, `file:${file}`]);
  const theirs = ['common', 'core', 'platform-express', 'platform-ws', 'websockets'];
  const peers = theirs.map((name) => [`@nestjs/${name}`, nest]);
  const dependencies = Object.fromEntries([...ours, ...peers]) as Record<string, string>;
  Object.assign(dependencies, { 'reflect-metadata': '^0.2.2', rxjs: '^7.8.2', zod: '^4.6.7' });
  // Theirs of each other, too: no registry has them.
  const overrides = Object.fromEntries(ours.map(([name = '']) => [name, `$${name}`]));
  return JSON.stringify({ name: 'app', private: true, type: 'module', dependencies, overrides });
}

const installed = (name: string): string => join(app, 'node_modules/@rookery', name);
const manifest = async (name: string): Promise<Manifest> =>
  JSON.parse(await readFile(join(installed(name), 'package.json'), 'utf8')) as Manifest;
const filesOf = async (name: string): Promise<string[]> =>
  (await readdir(join(installed(name), 'dist'), { recursive: true })).map((file) =>
    join(installed(name), 'dist', file),
  );

describe('the packages', () => {
  it.each(names)('%s says whose it is, and has what it points to', async (name) => {
    const { engines, repository, license } = await manifest(name);
    // The proxy chooses which upgrades it takes, which Node lets it since 24.9.
    const node = name === 'proxy' ? '>=24.9' : '>=24';
    expect([engines?.node, license]).toEqual([node, 'Apache-2.0']);
    expect(repository?.directory).toBe(`modules/${name}`);
    expect(await readFile(join(installed(name), 'LICENSE'), 'utf8')).toMatch(/Apache License/);
    for (const map of (await filesOf(name)).filter((file) => file.endsWith('.map'))) {
      const { sources } = JSON.parse(await readFile(map, 'utf8')) as { sources: string[] };
      const built = join(root, 'modules', name, relative(installed(name), map));
      for (const source of sources) {
        // What an earlier build of this checkout has left is in no fresh one.
        if (existsSync(join(dirname(built), source))) await readFile(join(dirname(map), source));
      }
    }
  });

  it.each(names)('%s depends on whatever its code and types name', async (name) => {
    const { dependencies = {}, peerDependencies = {} } = await manifest(name);
    const declared = new Set([...Object.keys(dependencies), ...Object.keys(peerDependencies)]);
    const foreign = new Set<string>();
    for (const file of (await filesOf(name)).filter((each) => /\.(?:js|d\.ts)$/.test(each))) {
      const text = await readFile(file, 'utf8');
      for (const [, from = ''] of text.matchAll(
        /^(?:import|export|}).*? from '([^.'][^']*)';$/gm,
      )) {
        foreign.add(from);
      }
      for (const [, from = ''] of text.matchAll(/\bimport\('([^.'][^']*)'\)/g)) foreign.add(from);
    }
    const packages = [...foreign]
      .filter((from) => !from.startsWith('node:'))
      .map((from) => /^(?:@[^/]+\/)?[^/]+/.exec(from)?.[0] ?? from);
    expect(packages.filter((each) => !declared.has(each))).toEqual([]);
    const own = [...declared].filter((each) => /^@nestjs\/|^rxjs$|^reflect-metadata$/.test(each));
    expect(own.filter((each) => each in dependencies)).toEqual([]);
  });

  it('are typed for an app that checks its libraries, and their examples run in it', async () => {
    const doors: string[] = [];
    for (const name of names) {
      for (const door of Object.keys((await manifest(name)).exports)) {
        doors.push(`export * as d${doors.length} from '@rookery/${name}${door.slice(1)}';`);
      }
      const examples = join(root, 'modules', name, 'examples');
      for (const file of await readdir(examples).catch(() => [])) {
        if (file.endsWith('.ts')) await cp(join(examples, file), join(app, 'src', name, file));
      }
    }
    await writeFile(join(app, 'src/doors.ts'), doors.join('\n'));
    await writeFile(join(app, 'src/main.ts'), main);
    const compilerOptions = {
      target: 'es2024',
      lib: ['es2024', 'esnext.disposable'],
      module: 'nodenext',
      strict: true,
      skipLibCheck: false,
      types: ['node'],
      rootDir: 'src',
      outDir: 'out',
      experimentalDecorators: true,
      emitDecoratorMetadata: true,
    };
    const config = JSON.stringify({ compilerOptions, include: ['src'] });
    await writeFile(join(app, 'tsconfig.json'), config);
    const tsc = join(root, 'node_modules/@typescript/native/bin/tsc');
    expect((await run([process.execPath, tsc, '-p', '.'])).stdout).toBe('');

    const loads = `import('./out/doors.js').then((doors) => console.log(Object.keys(doors).length))`;
    const loaded = await run([process.execPath, '-e', loads]);
    expect([loaded.stderr, loaded.stdout.trim()]).toEqual(['', String(doors.length)]);
    const ran = await run([process.execPath, 'out/main.js']);
    expect(ran.stderr).toBe('');
    expect(JSON.parse(ran.stdout)).toEqual({
      core: ['No volume x.', 'hi'],
      storage: [],
      backup: 'kept',
      move: ['hello'],
      conat: 'Hello, world.',
      jetstream: 1,
      proxy: 'ok',
      rpc: 'Hello, world.',
      fleet: 'SERVICE_FORBIDDEN',
      runner: 'function',
      client: ['function', 'function'],
      cli: 'bash',
      api: [true, true],
    });
  });

  it('bring the command line', async () => {
    const rookery = join(app, 'node_modules/.bin/rookery');
    const help = await run([rookery, '--help']);
    expect(help.stdout).toContain('Usage: rookery');
    const up = await run([rookery, 'up', '--detach']);
    expect([up.exit, up.stdout]).toEqual([1, '']);
    expect(up.stderr).toContain('./rookery up (REPOSITORY_NEEDED)');
  });

  it.each(names)('%s is as publint and attw would have it', async (name) => {
    const publint = join(root, 'node_modules/publint/src/cli.js');
    const linted = await run([process.execPath, publint, tarballs.get(name)!, '--strict']);
    expect(linted.stdout).toContain('All good!');
    const attw = join(root, 'node_modules/@arethetypeswrong/cli/dist/index.js');
    const flags = ['--profile', 'esm-only', '--format', 'json'];
    const checked = await run([process.execPath, attw, tarballs.get(name)!, ...flags]);
    const { problems } = JSON.parse(checked.stdout) as { problems?: Record<string, unknown> };
    const found = Object.keys(problems ?? {});
    // A CommonJS app has `import()`; Node 10's resolution knows no doors.
    expect(found.filter((each) => each !== 'CJSResolvesToESM' && each !== 'NoResolution')).toEqual(
      [],
    );
  });

  it('are refused to an app of NestJS 11, which is not ESM', async () => {
    const old = join(folder, 'old');
    await mkdir(old);
    await writeFile(join(old, 'package.json'), manifestOf('^11.0.0'));
    const { exit, stderr } = await npmInstall(['--package-lock-only'], old);
    expect(exit).toBe(1);
    expect(stderr).toMatch(/ERESOLVE/);
    expect(stderr).toMatch(/peer @nestjs\/\S+@"\^12\.0\.0" from @rookery\//);
    expect(await readdir(old)).toEqual(['package.json']);
  });
});

import { createInterface } from 'node:readline';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { SystemExec } from '@rookery/core';
import { natsServerMissing } from '@rookery/conat/testing';
import type { InteropServer } from './targets.js';

export type Language = 'js' | 'go' | 'python' | 'python-core';

const folder = join(import.meta.dirname, '..');
const cache = process.env.ROOKERY_CACHE ?? '/var/cache/rookery';
const goRoot = join(cache, 'go');
const python = join(cache, 'nats-py', 'bin', 'python');
/** Of `nats-core` and what builds on it, which want a newer Python than Debian 12 has. */
const corePython = join(cache, 'nats-core-py', 'bin', 'python');
const runDeadlineMs = 120_000;
const exec = new SystemExec();

/** The same environment as scripts/setup/interop.sh uses, so that nothing is fetched or built twice. */
const goEnvironment = {
  PATH: `${join(cache, 'go-toolchain', 'bin')}:/usr/local/go/bin:${process.env.PATH ?? ''}`,
  GOPATH: goRoot,
  GOCACHE: join(goRoot, 'cache'),
  GOFLAGS: '-mod=mod -modcacherw -buildvcs=false',
  GOTOOLCHAIN: 'local',
};

const commands: Record<Language, () => Promise<string[]>> = {
  js: async () => [process.execPath, join(folder, 'js', 'main.mjs')],
  go: async () => [await goProgram()],
  python: async () => [python, join(folder, 'python', 'main.py')],
  'python-core': async () => [corePython, join(folder, 'python-core', 'main.py')],
};

/** Built by go itself, which knows when its sources have changed. */
let built: Promise<string> | undefined;
const goProgram = (): Promise<string> => (built ??= buildGoProgram());

async function buildGoProgram(): Promise<string> {
  const program = join(goRoot, 'bin', 'conat-interop');
  await mkdir(join(goRoot, 'bin'), { recursive: true });
  await exec.run(['go', 'build', '-o', program, '.'], {
    cwd: join(folder, 'go'),
    env: goEnvironment,
    timeoutMs: 300_000,
  });
  return program;
}

/** Why programs of a language cannot run here; undefined when they can. */
export async function missingFor(language: Language): Promise<string | undefined> {
  const server = await natsServerMissing();
  if (server !== undefined || language === 'js') return server;
  try {
    if (language === 'python') await exec.run([python, '-c', 'import nats, aiohttp']);
    else if (language === 'go') await goProgram();
    else await exec.run([corePython, '-c', 'import nats.key_value']);
    return undefined;
  } catch (error) {
    const why = error instanceof Error ? error.message.split('\n')[0] : String(error);
    return `the ${language} client cannot run (./rookery test brings it): ${why}`;
  }
}

/** Runs scenarios of one language against a server. @returns the transcript's lines */
export async function runProgram(
  language: Language,
  server: InteropServer,
  scenarios: readonly string[],
): Promise<string[]> {
  const argv = [...(await commands[language]()), JSON.stringify(server.target), ...scenarios];
  const child = exec.spawn(argv, { signal: AbortSignal.timeout(runDeadlineMs) });
  const transcript: string[] = [];
  for await (const line of createInterface({ input: child.stdout })) {
    if (line === '@restart') {
      await server.restart();
      child.stdin.write('done\n');
    } else transcript.push(line);
  }
  const end = await child.ended;
  if (end.exit !== 0) transcript.push(`exit ${end.exit ?? end.signal}: ${end.stderr}`);
  return transcript;
}

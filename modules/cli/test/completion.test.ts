import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from '@jest/globals';
import { SystemExec } from '@rookery/core';
import { cli } from '../src/testing/run-cli.js';

const exec = new SystemExec();
let folder: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'rookery-completion-'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

/** What bash offers at the end of these words; project names come from a stand-in. */
async function offered(...words: string[]): Promise<string[]> {
  const { stdout } = await cli(['completion', 'bash']);
  const script = join(folder, 'completion.bash');
  await writeFile(script, stdout);
  const quoted = words.map((word) => `'${word}'`).join(' ');
  const listed = '[\n  {\n    "name": "hello",\n  }\n]';
  const result = await exec.run([
    'bash',
    '-c',
    `rookery() { printf '%s\\n' '${listed}'; }
     source ${script}
     COMP_WORDS=(rookery ${quoted}); COMP_CWORD=${words.length}
     _rookery; printf '%s\\n' "\${COMPREPLY[@]}"`,
  ]);
  return result.stdout.trim().split('\n');
}

it('completes commands, groups, options and project names in bash', async () => {
  expect(await offered('pro')).toEqual(['project']);
  expect(await offered('project', 'mo')).toEqual(['move']);
  expect(await offered('project', 'move', '--to')).toEqual(['--to', '--token']);
  expect(await offered('project', 'move', 'he')).toEqual(['hello']);
  expect(await offered('--json', 'project', 'sta')).toEqual(['start']);
  expect(await offered('snapshot', 'create', 'hel')).toEqual(['hello']);
  expect(await offered('conat', 'str')).toEqual(['stream']);
  expect(await offered('conat', 'kv', 'hist')).toEqual(['history']);
  expect(await offered('conat', 'sub', '--que')).toEqual(['--queue']);
});

it.each(['zsh', 'fish'])('names every group for %s', async (shell) => {
  const { exit, stdout } = await cli(['completion', shell]);
  expect(exit).toBe(0);
  for (const word of ['project', 'snapshot', 'backup', 'host', 'rehydrate', 'join-token']) {
    expect(stdout).toContain(word);
  }
});

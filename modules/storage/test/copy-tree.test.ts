import {
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  stat,
  symlink,
  utimes,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { SystemExec } from '@rookery/core';
import { copyTree } from '../src/copy-tree.js';

const exec = new SystemExec();
const perl = async (folder: string, script: string): Promise<string> =>
  (await exec.run(['perl', '-e', `my $name = "n" x 50; ${script}`], { cwd: folder })).stdout;

describe('copying a tree', () => {
  let folder: string;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'rookery-copy-'));
    await mkdir(join(folder, 'from'));
  });
  // node:fs cannot remove what is that deep.
  afterEach(() => exec.run(['rm', '-rf', '--', folder]));

  it('reaches folders whose paths are longer than PATH_MAX', async () => {
    const [from, to] = [join(folder, 'from'), join(folder, 'to')];
    await perl(
      from,
      `for (1..240) { mkdir $name or die $!; chdir $name or die $!;
         if ($_ % 60 == 0) { open F, ">", "note"; print F $_; close F; symlink "note", "link"; utime 1000, $_, "note"; chmod 0640, "note" } }
       for (reverse 1..240) { utime 1000, 1000, "."; chdir ".." }`,
    );
    await writeFile(join(from, 'beside'), 'short');
    await copyTree(exec, from, to);
    const seen = await perl(
      to,
      `for (1..240) { chdir $name or die "$_ $!"; my @s = stat "."; $s[9] == 1000 or print "folder $_ was touched\\n";
         if ($_ % 60 == 0) { open F, "<", "note" or die "$_ $!"; my @n = stat "note"; printf "%s %d %o %s\\n", <F>, $n[9], $n[2] & 0777, readlink "link" } }`,
    );
    expect(seen).toBe([60, 120, 180, 240].map((at) => `${at} ${at} 640 note\n`).join(''));
    expect(await readFile(join(to, 'beside'), 'utf8')).toBe('short');
  });

  it('copies a single file, and fails with what else went wrong', async () => {
    const file = join(folder, 'from/file');
    await writeFile(file, 'text');
    await utimes(file, 5, 5);
    await copyTree(exec, file, join(folder, 'copy'));
    expect((await stat(join(folder, 'copy'))).mtimeMs).toBe(5000);
    await symlink('nowhere', join(folder, 'from/link'));
    await copyTree(exec, join(folder, 'from'), join(folder, 'to'));
    expect(await readdir(join(folder, 'to'))).toEqual(['file', 'link']);
    // Too long, and something else: that is what is told.
    await perl(join(folder, 'from'), `for (1..100) { mkdir $name; chdir $name }`);
    await mkdir(join(folder, 'taken/link'), { recursive: true });
    const both = copyTree(exec, join(folder, 'from'), join(folder, 'taken'));
    await expect(both).rejects.toMatchObject({
      code: 'COMMAND_FAILED',
      details: {
        stderr: expect.stringMatching(/^[^\n]*cannot overwrite directory[^\n]*$/) as unknown,
      },
    });
    const missing = copyTree(exec, join(folder, 'missing'), join(folder, 'other'));
    await expect(missing).rejects.toMatchObject({ code: 'COMMAND_FAILED' });
  });
});

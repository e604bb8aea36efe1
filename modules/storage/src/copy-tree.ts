import { closeSync, constants } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { CodedError, openBeneath, type Exec } from '@rookery/core';

const folder = constants.O_RDONLY | constants.O_DIRECTORY;
const copyTimeoutMs = 60 * 60_000;
/** Where a path is this long its folder is copied by itself: well below PATH_MAX, prefix included. */
const splitChars = 2000;

const options = { timeoutMs: copyTimeoutMs, env: { LC_ALL: 'C' } };
const copyArgv = ['cp', '-a', '--reflink=auto', '--sparse=auto', '-T', '--'] as const;
const tooDeepExit = 75;

/**
 * As cp, and exit status 75 when nothing but too long names went wrong. What is kept of stderr could
 * be all about these, with another error before them.
 */
const copyShallow = `
said=$(${copyArgv.join(' ')} "$1" "$2" 2>&1) && exit 0
status=$?
other=$(printf '%s\\n' "$said" | grep -v ': File name too long$')
[ -n "$other" ] || exit ${tooDeepExit}
printf '%s\\n' "$other" >&2
exit $status
`;

/**
 * Copies a file or a tree with owners, times and extents, however deep it is: cp(1) names everything
 * from the top, and leaves out what is longer than PATH_MAX. Neither side may change meanwhile.
 */
export async function copyTree(exec: Exec, from: string, to: string): Promise<void> {
  try {
    await exec.run([...copyArgv, from, to], options);
  } catch (error) {
    if (!CodedError.is(error, 'COMMAND_FAILED')) throw error;
    if (!String(error.details['stderr']).includes('File name too long')) throw error;
    await copyDeep(exec, from, to);
  }
}

async function copyDeep(exec: Exec, from: string, to: string): Promise<void> {
  const argv = ['sh', '-c', copyShallow, 'cp', from, to];
  const { exit } = await exec.run(argv, { ...options, okExits: [0, tooDeepExit] });
  if (exit === 0) return;
  for (const path of await deepFolders(from, '')) await copyBelow(exec, { from, to, path });
}

/** What was copied of the folder already is copied once more, with names that begin there. */
async function copyBelow(
  exec: Exec,
  { from, to, path }: { from: string; to: string; path: string },
): Promise<void> {
  const source = openBeneath(from, path, folder);
  try {
    const target = openBeneath(to, path, folder);
    try {
      // By our pid: the child has no copy of the descriptors.
      const at = (fd: number): string => `/proc/${process.pid}/fd/${fd}/.`;
      await copyDeep(exec, at(source), at(target));
    } finally {
      closeSync(target);
    }
  } finally {
    closeSync(source);
  }
}

/** The outermost folders whose paths from the top are too long to go on with. */
async function deepFolders(top: string, path: string): Promise<string[]> {
  const found: string[] = [];
  for (const entry of await readdir(join(top, path), { withFileTypes: true })) {
    if (!entry.isDirectory()) continue;
    const inner = join(path, entry.name);
    if (inner.length >= splitChars) found.push(inner);
    else found.push(...(await deepFolders(top, inner)));
  }
  return found;
}

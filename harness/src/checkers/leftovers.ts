import { readdir, readFile, readlink } from 'node:fs/promises';
import { readMounts, type Exec } from '@rookery/core';

/** Everything of a machine that a Rookery process or test could leave behind. */
export interface Inventory {
  readonly mounts: readonly string[];
  readonly loopDevices: readonly string[];
  readonly networkNamespaces: readonly string[];
  readonly links: readonly string[];
  readonly nftTables: readonly string[];
  readonly processes: readonly string[];
}

/** What a leftover may be called: other people's mounts and processes are not ours to judge. */
const processPattern =
  /rookery|conmon|catatonit|postgres|podman|restic|btrfs (send|receive)|docker-registry/;

export async function takeInventory(exec: Exec): Promise<Inventory> {
  const lines = async (argv: string[]): Promise<string[]> =>
    (await exec.run(argv)).stdout.split('\n').filter((line) => line.trim() !== '');
  return {
    mounts: (await readMounts()).map((mount) => mount.path),
    loopDevices: await lines(['losetup', '--noheadings', '--output', 'NAME,BACK-FILE', '--list']),
    networkNamespaces: (await lines(['ip', 'netns', 'list'])).map(
      (line) => line.split(' ')[0] ?? '',
    ),
    links: (await lines(['ip', '-o', 'link'])).map((line) => line.split(': ')[1] ?? ''),
    nftTables: await lines(['nft', 'list', 'tables']),
    processes: await processes(),
  };
}

/** What is there now and was not before, one line each. */
export function leftoversSince(before: Inventory, after: Inventory): string[] {
  return (Object.keys(before) as (keyof Inventory)[]).flatMap((kind) => {
    const known = new Map<string, number>();
    for (const item of before[kind]) known.set(item, (known.get(item) ?? 0) + 1);
    return after[kind]
      .filter((item) => {
        const count = known.get(item) ?? 0;
        known.set(item, count - 1);
        return count <= 0;
      })
      .map((item) => `${kind}: ${item}`);
  });
}

/** `pid command` of processes that look like ours, this one and its ancestors left out. */
async function processes(): Promise<string[]> {
  const own = new Set([process.pid, process.ppid]);
  const found: string[] = [];
  for (const entry of await readdir('/proc')) {
    if (!/^\d+$/.test(entry) || own.has(Number(entry))) continue;
    try {
      const command = (await readFile(`/proc/${entry}/cmdline`, 'utf8'))
        .replaceAll('\0', ' ')
        .trim();
      const program = await readlink(`/proc/${entry}/exe`);
      if (processPattern.test(`${program} ${command}`))
        found.push(`${entry} ${command.slice(0, 160)}`);
    } catch {
      // It ended while we looked, or is a kernel thread.
    }
  }
  return found;
}

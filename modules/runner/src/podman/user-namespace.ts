import { readlink, writeFile } from 'node:fs/promises';
import { waitFor, type Exec, type SpawnedProcess } from '@rookery/core';

const namespaceMs = 5000;

/**
 * Makes a user namespace that lives as long as `task`.
 * @param map lines of user_namespaces(7), the same for users and groups
 * @param task gets the namespace's file under /proc
 */
export async function withUserNamespace<T>(
  exec: Exec,
  map: string,
  task: (path: string) => Promise<T>,
): Promise<T> {
  const holder = exec.spawn(['unshare', '--user', 'cat']);
  try {
    await writeMaps(holder, map);
    return await task(`/proc/${holder.pid}/ns/user`);
  } finally {
    holder.stdin.end();
    holder.kill('SIGKILL');
    await holder.ended;
  }
}

async function writeMaps(holder: SpawnedProcess, map: string): Promise<void> {
  const own = await readlink('/proc/self/ns/user');
  await waitFor(
    'the user namespace exists',
    async () => (await readlink(`/proc/${holder.pid}/ns/user`).catch(() => own)) !== own,
    { timeoutMs: namespaceMs, everyMs: 2 },
  );
  await writeFile(`/proc/${holder.pid}/uid_map`, map);
  await writeFile(`/proc/${holder.pid}/gid_map`, map);
}

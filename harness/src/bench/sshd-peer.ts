import { chmod, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Reverter, waitFor, type Exec } from '@rookery/core';
import { freePort } from './free-port.js';

/**
 * An OpenSSH server on loopback for one piece of work.
 * @param work gets the ssh command, to be followed by what is to run.
 */
export async function withLoopbackSshd<T>(
  exec: Exec,
  work: (ssh: readonly string[]) => Promise<T>,
): Promise<T> {
  await using undo = new Reverter();
  const folder = await mkdtemp(join(tmpdir(), 'rookery-sshd-'));
  undo.add(() => rm(folder, { recursive: true, force: true }));
  const [hostKey, userKey] = [join(folder, 'host'), join(folder, 'user')];
  for (const key of [hostKey, userKey]) {
    await exec.run(['ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-f', key]);
  }
  const authorized = join(folder, 'authorized');
  await writeFile(authorized, await readFile(`${userKey}.pub`));
  await chmod(authorized, 0o600);
  const port = await freePort();
  const config = join(folder, 'sshd_config');
  await writeFile(
    config,
    `ListenAddress 127.0.0.1\nPort ${port}\nHostKey ${hostKey}\nAuthorizedKeysFile ${authorized}\n` +
      'StrictModes no\nPermitRootLogin prohibit-password\nUsePAM no\nPidFile none\n',
  );
  await mkdir('/run/sshd', { recursive: true });
  const daemon = exec.spawn(['/usr/sbin/sshd', '-D', '-e', '-f', config]);
  undo.add(async () => {
    daemon.kill();
    await daemon.ended;
  });
  const options = ['-o', 'StrictHostKeyChecking=no', '-o', 'UserKnownHostsFile=/dev/null'];
  const ssh = ['ssh', '-q', ...options, '-i', userKey, '-p', String(port), 'root@127.0.0.1'];
  await waitFor(
    'sshd answers',
    async () => (await exec.run([...ssh, 'true'], { okExits: [0, 255] })).exit === 0,
    { timeoutMs: 10_000 },
  );
  return await work(ssh);
}

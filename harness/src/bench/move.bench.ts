import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { ProjectView } from '@rookery/client/contract';
import { MiB, Reverter, SystemExec } from '@rookery/core';
import { Cluster } from '../cluster/cluster.js';
import { rowOf, type BenchRow } from './report.js';
import { withLoopbackSshd } from './sshd-peer.js';

const rounds = 3;
const files = 20_000;
const totalBytes = 1024 * MiB;
const exec = new SystemExec();

/**
 * Moves a running project of 1 GB in 20,000 files back and forth, next to a bare
 * `btrfs send | ssh | btrfs receive` of the same subvolume through OpenSSH on this machine, and
 * counts how long an HTTP client that never stops asking has to wait at most.
 */
export async function benchMove(): Promise<BenchRow[]> {
  await using cluster = await Cluster.start({ hosts: 2 });
  const { client } = cluster;
  const { items } = await client.listProjects({ name: 'hello' });
  let project = items[0] as ProjectView;
  process.stderr.write('  writing 1 GB in 20,000 files\n');
  await cluster.run(project.id, fillCommand);
  const ours: number[] = [];
  const peer: number[] = [];
  const blackouts: number[] = [];
  for (let n = 0; n < rounds; n += 1) {
    const from = project.host ?? '';
    const to = from === 'host-1' ? 'host-2' : 'host-1';
    peer.push(await bareSend(await cluster.volumeOf(from), await cluster.volumeOf(to), project.id));
    const watch = watchBlackout(`${project.url}8080/`, await cluster.token());
    const begun = performance.now();
    const { operation } = await client.moveProject({ projectId: project.id, host: to });
    await client.waitForOperation(operation.id);
    ours.push((performance.now() - begun) / 1000);
    blackouts.push(await watch.stop());
    project = await client.getProject({ projectId: project.id });
    process.stderr.write(`  round ${n + 1} of ${rounds}\n`);
  }
  return [
    rowOf({
      row: 'move of 1 GB in 20,000 files',
      unit: 's',
      lessIsBetter: true,
      ours,
      peer: { name: 'btrfs send | ssh | btrfs receive', values: peer },
    }),
    rowOf({
      row: 'longest wait of an HTTP client during the move',
      unit: 'ms',
      lessIsBetter: true,
      ours: blackouts,
    }),
  ];
}

const fillCommand = `python3 - <<'END'
import os
size = ${totalBytes} // ${files}
for n in range(${files}):
    folder = os.path.expanduser('~/data/%03d' % (n // 200))
    os.makedirs(folder, exist_ok=True)
    with open('%s/%d' % (folder, n), 'wb') as f:
        f.write(os.urandom(size))
os.sync()
END`;

/** Seconds of the bare pipeline; what arrived is deleted again. */
async function bareSend(from: string, to: string, projectId: string): Promise<number> {
  await using undo = new Reverter();
  const picture = join(from, `bench-${process.pid}`);
  const landing = join(to, `bench-landing-${process.pid}`);
  await mkdir(landing);
  undo.add(() => rm(landing, { recursive: true, force: true }));
  await exec.run([
    'btrfs',
    'subvolume',
    'snapshot',
    '-r',
    join(from, `project-${projectId}`),
    picture,
  ]);
  undo.add(() => exec.run(['btrfs', 'subvolume', 'delete', picture]));
  await exec.run(['sync', '-f', picture]);
  return await withLoopbackSshd(exec, async (ssh) => {
    const begun = performance.now();
    const send = exec.spawn(['btrfs', 'send', '-q', '--proto', '2', '--compressed-data', picture]);
    const receive = exec.spawn([...ssh, 'btrfs', 'receive', '-q', landing]);
    send.stdin.end();
    receive.stdout.resume();
    send.stdout.pipe(receive.stdin);
    const ends = await Promise.all([send.ended, receive.ended]);
    const seconds = (performance.now() - begun) / 1000;
    const failed = ends.find((end) => end.exit !== 0);
    if (failed) throw new Error(`the bare pipeline failed: ${failed.stderr}`);
    await exec.run(['btrfs', 'subvolume', 'delete', join(landing, `bench-${process.pid}`)]);
    return seconds;
  });
}

/** One client that asks again as soon as it has its answer; gives its longest wait. */
function watchBlackout(url: string, token: string): { stop: () => Promise<number> } {
  let running = true;
  let longestMs = 0;
  const loop = (async () => {
    let lastGood = performance.now();
    while (running) {
      const answer = await fetch(url, { headers: { authorization: `Bearer ${token}` } }).catch(
        () => undefined,
      );
      await answer?.arrayBuffer().catch(() => undefined);
      if (!answer?.ok) continue;
      longestMs = Math.max(longestMs, performance.now() - lastGood);
      lastGood = performance.now();
    }
  })();
  return {
    stop: async () => {
      running = false;
      await loop;
      return longestMs;
    },
  };
}

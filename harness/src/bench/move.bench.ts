import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { ProjectView } from '@rookery/api';
import { MiB, Reverter, SystemExec } from '@rookery/core';
import { Cluster } from '../cluster/cluster.js';
import { rowOf, type BenchRow } from './report.js';
import { withLoopbackSshd } from './sshd-peer.js';

const rounds = 3;
/** No round begins after this: a busy machine gives fewer figures, not a late answer. */
const budgetMs = 120_000;
/** How often the client asks: often enough to see a gap, too seldom to take part in the race. */
const askEveryMs = 20;
/** A move that takes longer has come to a stop. */
const moveTimeoutMs = 120_000;
const files = 20_000;
const totalBytes = 1024 * MiB;
const exec = new SystemExec();

/**
 * Moves a running project of 1 GB in 20,000 files back and forth, next to a bare
 * `btrfs send | ssh | btrfs receive` of the same subvolume through OpenSSH on this machine. A client
 * asks the project's web service fifty times a second throughout, and notes its longest wait.
 */
export async function benchMove(): Promise<BenchRow[]> {
  await using cluster = await Cluster.start({ hosts: 2 });
  const { client } = cluster;
  const { items } = await client.listProjects({ name: 'hello' });
  let project = items[0] as ProjectView;
  const move = async (): Promise<void> => {
    const to = project.host === 'host-1' ? 'host-2' : 'host-1';
    const { operation } = await client.moveProject({ projectId: project.id, host: to });
    await client.waitForOperation(operation.id, { signal: AbortSignal.timeout(moveTimeoutMs) });
    project = await client.getProject({ projectId: project.id });
  };
  // Brings the image to the other host, once: the bare pipeline carries none.
  await move();
  process.stderr.write('  writing 1 GB in 20,000 files\n');
  await cluster.run(project.id, fillCommand);
  const ours: number[] = [];
  const peer: number[] = [];
  const blackouts: number[] = [];
  const deadline = performance.now() + budgetMs;
  const volumes = [await cluster.volumeOf('host-1'), await cluster.volumeOf('host-2')] as const;
  for (let n = 0; n < rounds && performance.now() < deadline; n += 1) {
    const [from, to] = project.host === 'host-1' ? volumes : [volumes[1], volumes[0]];
    await using watch = watchBlackout(`${project.url}8080/`, await cluster.token());
    peer.push(await bareSend(from, to, project.id));
    watch.reset();
    const begun = performance.now();
    await move();
    ours.push((performance.now() - begun) / 1000);
    blackouts.push(await watch.stop());
    const [took, bare] = [ours.at(-1) ?? 0, peer.at(-1) ?? 0];
    process.stderr.write(
      `  round ${n + 1} of ${rounds}: ${took.toFixed(1)} s, bare ${bare.toFixed(1)} s\n`,
    );
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
    // The next to be measured does not share its disk with the removal.
    await exec.run(['btrfs', 'subvolume', 'sync', to], { timeoutMs: 120_000 });
    return seconds;
  });
}

interface Watch extends AsyncDisposable {
  /** Forgets what it saw so far. */
  reset: () => void;
  /** @returns the longest time from one good answer to the next, in ms */
  stop: () => Promise<number>;
}

/** One client that asks, reads its answer, and asks again a little later. */
function watchBlackout(url: string, token: string): Watch {
  let running = true;
  let longestMs = 0;
  let lastGood = performance.now();
  const loop = (async () => {
    while (running) {
      const answer = await fetch(url, { headers: { authorization: `Bearer ${token}` } }).catch(
        () => undefined,
      );
      await answer?.arrayBuffer().catch(() => undefined);
      if (answer?.ok) {
        longestMs = Math.max(longestMs, performance.now() - lastGood);
        lastGood = performance.now();
      }
      await new Promise((resolve) => setTimeout(resolve, askEveryMs));
    }
  })();
  const stop = async (): Promise<number> => {
    running = false;
    await loop;
    return longestMs;
  };
  return {
    reset: () => {
      longestMs = 0;
      lastGood = performance.now();
    },
    stop,
    [Symbol.asyncDispose]: async () => void (await stop()),
  };
}

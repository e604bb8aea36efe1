import type { ProjectView } from '@rookery/api';
import { waitFor } from '@rookery/core';
import { Cluster, textOf } from '../cluster/cluster.js';
import { PodmanPeer } from './podman-peer.js';
import { rowOf, type BenchRow } from './report.js';

const rounds = 7;
const pagePort = 8080;

/**
 * A project's life in milliseconds, asked of the hub as a user does, next to bare podman on the
 * same image and disk: every figure of ours contains the hub, the host, the volume, the quota, the
 * network and the two hops of messaging, which podman's does not.
 */
export async function benchStart(): Promise<BenchRow[]> {
  await using cluster = await Cluster.start({ hosts: 1 });
  await using peer = await PodmanPeer.on(await cluster.volumeOf('host-1'));
  const times: Record<string, number[]> = {};
  const timed = async <T>(name: string, work: () => Promise<T>): Promise<T> => {
    const begun = performance.now();
    const result = await work();
    (times[name] ??= []).push(performance.now() - begun);
    return result;
  };
  const { items } = await cluster.client.listProjects({ name: 'hello' });
  const hello = items[0] as ProjectView;
  for (let n = 0; n < rounds; n += 1) {
    await oneRound(cluster, hello, peer, timed);
    process.stderr.write(`  round ${n + 1} of ${rounds}\n`);
  }
  const of = (name: string): number[] => times[name] ?? [];
  const row = (name: string, peerName: string, peerTimes: string, goalMs?: number): BenchRow =>
    rowOf({
      row: name,
      unit: 'ms',
      lessIsBetter: true,
      ours: of(name),
      peer: { name: peerName, values: of(peerTimes) },
      ...(goalMs !== undefined && { goal: { ours: goalMs } }),
    });
  return [
    row('create → first byte of a command', 'podman run + exec', 'peer create', 1000),
    row('start → first byte of a web page', 'podman start + page', 'peer start', 1000),
    row('exec', 'podman exec', 'peer exec'),
    row('stop', 'podman stop', 'peer stop'),
  ];
}

type Timed = <T>(name: string, work: () => Promise<T>) => Promise<T>;

async function oneRound(
  cluster: Cluster,
  hello: ProjectView,
  peer: PodmanPeer,
  timed: Timed,
): Promise<void> {
  const { client } = cluster;
  const authorization = `Bearer ${await cluster.token()}`;
  const finish = (started: { operation: { id: string } }): Promise<unknown> =>
    client.waitForOperation(started.operation.id);
  const project = await timed('create → first byte of a command', async () => {
    const started = await client.createProject({ name: 'bench', start: true });
    await finish(started);
    await firstByte(cluster, started.project.id);
    return started.project;
  });
  await timed('exec', () => firstByte(cluster, project.id));
  await timed('stop', async () => finish(await client.stopProject({ projectId: project.id })));
  await finish(await client.deleteProject({ projectId: project.id }));

  await finish(await client.stopProject({ projectId: hello.id }));
  await timed('start → first byte of a web page', async () => {
    await finish(await client.startProject({ projectId: hello.id }));
    await pageAnswers(`${hello.url}${pagePort}/`, { authorization });
  });

  const port = 30_000 + (process.pid % 10_000);
  const server = ['python3', '-m', 'http.server', '--bind', '127.0.0.1', String(port)];
  const merged = await peer.prepare();
  const name = await timed('peer create', async () => {
    const made = await peer.run(merged, server);
    await peer.call(['exec', made, 'echo', 'x']);
    return made;
  });
  await timed('peer exec', () => peer.call(['exec', name, 'echo', 'x']));
  // A server that is pid 1 ignores SIGTERM: podman would wait its whole grace.
  await timed('peer stop', () => peer.call(['stop', '-t', '0', name]));
  await timed('peer start', async () => {
    await peer.call(['start', name]);
    await pageAnswers(`http://127.0.0.1:${port}/`, {});
  });
  await peer.call(['rm', '-f', '-t', '0', name]);
}

async function firstByte(cluster: Cluster, projectId: string): Promise<void> {
  const call = await cluster.client.exec(projectId, { command: ['echo', 'x'] });
  call.stdin.end();
  call.stderr.resume();
  await textOf(call.stdout);
  await call.result;
}

async function pageAnswers(url: string, headers: Record<string, string>): Promise<void> {
  await waitFor(
    'the page answers',
    async () => {
      const answer = await fetch(url, { headers }).catch(() => undefined);
      await answer?.arrayBuffer();
      return answer?.ok;
    },
    { timeoutMs: 30_000, everyMs: 5 },
  );
}

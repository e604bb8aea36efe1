import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import type { OperationView, ProjectView } from '@rookery/api';
import { Cluster } from '@rookery/harness';
import { waitFor } from '@rookery/core';
import WebSocket from 'ws';
import { echoPort, echoService, installService } from './support/services.js';

/** How long the service needs before it listens, in seconds. */
const slowSeconds = 2;
const workers = 8;
const slowService = echoService.replace(
  'Server((',
  `import time; time.sleep(${slowSeconds})\nServer((`,
);

/** People who go on asking whatever happens: what they are answered, and how often. */
class Askers {
  readonly answers = new Map<string, number>();
  private ended = false;
  private readonly all: Promise<void>[] = [];

  constructor(
    private readonly url: string,
    private readonly token: string,
  ) {
    for (let n = 0; n < workers; n += 1) this.all.push(this.ask(n));
  }

  count(): number {
    return [...this.answers.values()].reduce((sum, each) => sum + each, 0);
  }

  async end(): Promise<void> {
    this.ended = true;
    await Promise.all(this.all);
  }

  private async ask(n: number): Promise<void> {
    const headers = { authorization: `Bearer ${this.token}` };
    while (!this.ended) {
      const answer = n === 0 ? await this.upgrade(headers) : await this.get(headers);
      this.answers.set(answer, (this.answers.get(answer) ?? 0) + 1);
    }
  }

  private async get(headers: Record<string, string>): Promise<string> {
    try {
      const response = await fetch(`${this.url}x`, { headers });
      const text = await response.text();
      return response.status === 200 ? '200' : `${response.status} ${text}`;
    } catch (error) {
      return (error as Error).message;
    }
  }

  private upgrade(headers: Record<string, string>): Promise<string> {
    return new Promise((resolve) => {
      const socket = new WebSocket(this.url.replace('http', 'ws'), { headers });
      socket.once('open', () => {
        socket.terminate();
        resolve('200');
      });
      socket.once('unexpected-response', (_req, res) => resolve(`socket ${res.statusCode}`));
      socket.once('error', (error) => resolve(`socket ${error.message}`));
    });
  }
}

describe('a service that needs its time to start', () => {
  let cluster: Cluster;
  let project: ProjectView;
  let askers: Askers;

  beforeAll(async () => {
    cluster = await Cluster.start({ hosts: 2 });
    const started = await cluster.client.createProject({
      name: 'slow',
      start: true,
      quota: { diskBytes: 1024 ** 3, memoryBytes: 256 * 1024 ** 2, cpus: 1 },
    });
    await finished(started);
    project = await cluster.client.getProject({ projectId: started.project.id });
    const call = await cluster.client.exec(project.id, {
      command: ['sh', '-c', installService('echo')],
    });
    call.stdin.end(slowService);
    call.stdout.resume();
    call.stderr.resume();
    expect((await call.result).exit).toBe(0);
    await finished(await cluster.client.stopProject({ projectId: project.id }));
    await finished(await cluster.client.startProject({ projectId: project.id }));
    const url = `${project.url}${echoPort}/`;
    const token = await cluster.token();
    const headers = { authorization: `Bearer ${token}` };
    await waitFor('it answers', async () => (await fetch(url, { headers })).status === 200, {
      timeoutMs: 30_000,
    });
    askers = new Askers(url, token);
    await waitFor('they are answered', () => askers.count() > 50, { timeoutMs: 30_000 });
  }, 300_000);

  afterAll(async () => {
    await askers?.end();
    await cluster?.destroy();
  }, 240_000);

  const finished = async (started: { operation: OperationView }): Promise<OperationView> =>
    cluster.client.waitForOperation(started.operation.id);

  /** Nobody got anything but an answer of the service, and answers came afterwards, too. */
  async function undisturbed(): Promise<void> {
    const count = askers.count();
    await waitFor('they are answered', () => askers.count() > count + 50, { timeoutMs: 60_000 });
    expect([...askers.answers.keys()]).toEqual(['200']);
  }

  test('is waited for after a move', async () => {
    const { host } = project;
    await finished(await cluster.client.moveProject({ projectId: project.id }));
    project = await cluster.client.getProject({ projectId: project.id });
    expect(project.host).not.toBe(host);
    await undisturbed();
  }, 120_000);

  test('is waited for while a snapshot is restored', async () => {
    const { id: projectId } = project;
    await cluster.client.createSnapshot({ projectId, name: 'before' });
    await finished(await cluster.client.restoreSnapshot({ projectId, name: 'before' }));
    await undisturbed();
  }, 120_000);

  test('is waited for when somebody starts the project again', async () => {
    const { id: projectId } = project;
    await askers.end();
    await finished(await cluster.client.stopProject({ projectId }));
    await finished(await cluster.client.startProject({ projectId }));
    const url = `${project.url}${echoPort}/`;
    const headers = { authorization: `Bearer ${await cluster.token()}` };
    expect((await fetch(url, { headers })).status).toBe(200);
  }, 120_000);
});

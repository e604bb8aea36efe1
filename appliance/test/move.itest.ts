import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { createInbox, wsconnect, type Msg, type NatsConnection } from '@nats-io/nats-core';
import { newId, waitFor } from '@rookery/core';
import { ProjectSpec } from '@rookery/core/contract';
import { moveDestination, moveSource, hostProjects, hostSnapshots } from '@rookery/fleet/contract';
import { FakeHub, type RegisteredHost } from './fake-hub.js';
import { HostProcess } from './host-process.js';

const spec = ProjectSpec.parse({
  image: 'localhost/rookery/debian:13',
  quota: { diskBytes: 512 * 1024 * 1024, memoryBytes: 256 * 1024 * 1024, cpus: 1, pidsMax: 256 },
});
const web = [
  'cd ~ && echo hello > index.html',
  'setsid python3 -m http.server --bind 127.0.0.1 8080 >/dev/null 2>&1 &',
].join('\n');

describe('two hosts', () => {
  const hub = new FakeHub();
  const processes: HostProcess[] = [];
  const id = newId();
  const account = newId();
  const clients: NatsConnection[] = [];

  beforeAll(async () => {
    await hub.start();
    hub.access.set(account, [{ projectId: id, role: 'owner' }]);
    for (const n of [3, 4]) {
      const host = await HostProcess.create(hub, `10.231.${n}.0/24`, `apt${n}`);
      processes.push(host);
      host.start();
      await host.untilReady();
    }
  });
  afterAll(async () => {
    await Promise.all(clients.map((client) => client.close()));
    for (const host of processes) await host.destroy();
    await hub.stop();
  });

  const host = (n: 0 | 1): RegisteredHost => {
    const [found] = hub.hosts.slice(n);
    if (!found) throw new Error('the host has not joined');
    return found;
  };
  const exec = async (n: 0 | 1, command: string): Promise<string> => {
    const projects = hub.service(hostProjects, host(n).hostId);
    const call = await projects.exec({ projectId: id, command: ['sh', '-c', command] });
    call.stdin.end();
    let stdout = '';
    call.stdout.on('data', (chunk: Buffer) => (stdout += chunk.toString()));
    expect(await call.result).toEqual({ exit: 0 });
    return stdout;
  };
  const get = async (n: 0 | 1): Promise<Response> => {
    const { hostId, internalUrl } = host(n);
    const token = await hub.token(id, hostId);
    const headers = { 'rookery-token': token };
    return fetch(`${internalUrl}/${id}/server/8080/index.html`, { headers });
  };

  /** One of the project's owners at a host's broker; answers are JSON. */
  const enter = async (n: 0 | 1) => {
    const client = await wsconnect({
      servers: `ws://127.0.0.1:${processes[n]!.ports.agent}/conat`,
      inboxPrefix: `_INBOX.account-${account}`,
      token: await hub.conatToken(account),
    });
    clients.push(client);
    const options = { timeout: 10_000 };
    const ask = async (subject: string, body: unknown): Promise<unknown> => {
      const text = typeof body === 'string' ? body : JSON.stringify(body);
      return (await client.request(`project.${id}.${subject}`, text, options)).json();
    };
    const next = async (): Promise<string> => {
      const subject = `project.${id}.js.api.CONSUMER.MSG.NEXT.log.reader`;
      // It comes under its own subject, which tells `request` nothing.
      const inbox = createInbox(`_INBOX.account-${account}`);
      const subscription = client.subscribe(inbox, { max: 1, timeout: 10_000 });
      client.publish(subject, '{"batch":1}', { reply: inbox });
      const { value } = await subscription[Symbol.asyncIterator]().next();
      const message = value as Msg;
      await client.request(message.reply!, '+ACK', options);
      return message.string();
    };
    return { ask, next };
  };

  it('carry a running project from one to the other through the SSH ingress', async () => {
    hub.owned.set(id, 1);
    const source = hub.service(hostProjects, host(0).hostId);
    await source.create({ fence: hub.fence(id), spec });
    const { spec: pinned } = await source.start({ fence: hub.fence(id), spec });
    await exec(0, web);
    await hub.service(hostSnapshots, host(0).hostId).create({ fence: hub.fence(id), name: 'kept' });
    await waitFor('the page answers', async () => (await get(0)).status === 200, {
      timeoutMs: 20_000,
    });

    const before = await enter(0);
    await before.ask('js.api.STREAM.CREATE.log', { name: 'log', subjects: ['log.>'] });
    const made = await before.ask('js.api.CONSUMER.DURABLE.CREATE.log.reader', {
      stream_name: 'log',
      config: { durable_name: 'reader', ack_policy: 'explicit' },
    });
    expect(made).toMatchObject({ name: 'reader' });
    for (const text of ['one', 'two', 'three']) await before.ask('log.a', text);
    expect(await before.next()).toBe('one');

    const moveId = newId();
    const fence = { ...hub.fence(id), operationId: moveId };
    const call = { fence, moveId };
    const from = hub.service(moveSource, host(0).hostId);
    const to = hub.service(moveDestination, host(1).hostId);
    const { hostId, sshHost, sshPort, ingressKey } = host(1);
    const target = { hostId, sshHost, sshPort, ingressKey };
    const { usedBytes, imageDigest } = await from.describe(call);
    expect(imageDigest).toBe(pinned.imageDigest);
    const { treeDigest } = await from.imageTree({ ...call, imageDigest: pinned.imageDigest! });
    // The host says by itself what its images hold.
    const said = () => hub.imageTrees.get(`${host(0).hostId} ${imageDigest}`);
    const heard = await waitFor('the hub has heard of the image', said, { timeoutMs: 20_000 });
    expect(heard).toBe(treeDigest);
    const prepare = (imageTree?: string) =>
      to.prepare({
        ...call,
        spec: pinned,
        needBytes: usedBytes,
        ...(imageTree && { imageTree }),
        sourceHostId: host(0).hostId,
        sourceTransferKey: host(0).transferKey,
      });
    expect(await prepare()).toEqual({ hasImage: false, checksImages: true });
    const unknown = from.copy({ ...call, target, sendImage: true });
    await expect(unknown).rejects.toMatchObject({ code: 'MOVE_IMAGE_UNKNOWN' });
    await prepare(`tree1:${'0'.repeat(64)}`);
    const differing = from.copy({ ...call, target, sendImage: true });
    await expect(differing).rejects.toMatchObject({ code: 'IMAGE_DIFFERS' });
    expect((await prepare(treeDigest)).hasImage).toBe(false);
    await from.copy({ ...call, target, sendImage: true });
    await exec(0, 'echo late > ~/late.txt; sync');
    expect(await before.ask('log.a', 'late')).toMatchObject({ seq: 4 });

    const { manifest, wasRunning } = await from.cutover({ ...call, target });
    expect(wasRunning).toBe(true);
    const fenced = source.start({ fence: hub.fence(id), spec: pinned });
    await expect(fenced).rejects.toMatchObject({ code: 'PROJECT_BUSY_MOVING' });
    expect(await before.ask('log.a', 'too late')).toMatchObject({
      error: { code: 503, description: expect.stringContaining('ACCOUNT_FENCED') },
    });
    await to.verify({ ...call, manifest });
    hub.owned.set(id, 2);
    hub.owners.set(id, hostId);
    const after = { ...call, fence: { ...fence, generation: 2 } };
    await to.activate({ ...after, manifest, spec: pinned, start: true });
    await from.retire({ ...call, newUrl: host(1).publicUrl });

    expect(await exec(1, 'cat ~/index.html ~/late.txt')).toBe('hello\nlate\n');
    const reader = await enter(1);
    const rest = [await reader.next(), await reader.next(), await reader.next()];
    expect(rest).toEqual(['two', 'three', 'late']);
    expect(await reader.ask('log.a', 'there')).toMatchObject({ seq: 5 });
    const { snapshots } = await hub.service(hostSnapshots, hostId).list({ projectId: id });
    expect(snapshots.map(({ name }) => name)).toContain('kept');
    await exec(1, web);
    await waitFor('the page answers', async () => (await get(1)).status === 200, {
      timeoutMs: 20_000,
    });
    expect((await get(0)).status).toBe(421);
    const gone = source.get({ projectId: id });
    await expect(gone).rejects.toMatchObject({ code: 'PROJECT_NOT_HERE' });
    // The key opened that one move, and nothing any more.
    const again = from.copy({ ...call, target });
    await expect(again).rejects.toMatchObject({ code: 'MOVE_COMMITTED' });
  });
});

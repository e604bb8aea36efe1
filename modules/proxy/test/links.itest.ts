import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { readdir } from 'node:fs/promises';
import { newId, Reverter, SystemExec, waitFor } from '@rookery/core';
import { WebSocket } from 'ws';
import { Rig, accounts, type Host } from './rig.js';

const exec = new SystemExec();
const address = '10.215.10.2';
const cleanup = new Reverter();
const mine = newId();
const stranger = newId();
const links = new Map<string, number>();
const rig = new Rig();
let host: Host;
const wsModule = `${import.meta.dirname}/../../../node_modules/ws`;

/** Answers HTTP with its name and the connection's number, and takes WebSockets. */
const service = (name: string): string => `
const { createServer } = require('node:http');
const { WebSocketServer } = require(${JSON.stringify(wsModule)});
let connections = 0;
const server = createServer((req, res) => res.end('${name} ' + req.socket.number));
server.on('connection', (socket) => { socket.number = ++connections; });
new WebSocketServer({ server }).on('connection', (ws) => ws.send('${name}'));
server.listen(80, () => console.log('up'));`;

/** A container: a network namespace with that address, behind a link of its own. */
async function container(name: string): Promise<void> {
  const process_ = exec.spawn(['unshare', '--net', process.execPath, '-e', service(name)]);
  cleanup.add(async () => {
    process_.kill('SIGKILL');
    await process_.ended;
  });
  await new Promise((resolve) => process_.stdout.once('data', resolve));
  const input = `link add ${name} type veth peer name eth0 netns ${process_.pid}\nlink set ${name} up\n`;
  await exec.run(['ip', '-batch', '-'], { input });
  await exec.run(['nsenter', `--net=/proc/${process_.pid}/ns/net`, 'ip', '-batch', '-'], {
    input: `address add ${address}/32 dev eth0\nlink set eth0 up\nroute add default dev eth0\n`,
  });
  const { stdout } = await exec.run(['ip', '-json', 'link', 'show', name]);
  links.set(name, (JSON.parse(stdout) as { ifindex: number }[])[0]?.ifindex ?? 0);
}

const route = (projectId: string, link: string): void =>
  host.routes.set(projectId, { state: 'running', address, linkIndex: links.get(link) ?? 0 });

async function tokenFor(project: string): Promise<string> {
  const sub = `account:${accounts.owner}`;
  return rig.minter.mint({ aud: `host:${host.hostId}`, sub, project, role: 'owner' });
}

async function ask(project: string): Promise<Response> {
  const headers = { 'rookery-token': await tokenFor(project) };
  return fetch(`${host.url}/${project}/port/80/`, { headers });
}

async function get(project: string): Promise<string> {
  const response = await ask(project);
  const text = await response.text();
  return response.ok ? text : String(response.status);
}

const openFiles = async (): Promise<number> => (await readdir('/proc/self/fd')).length;

beforeAll(async () => {
  // The host's own address, as the projects know it.
  await exec.run(['ip', 'address', 'replace', '10.215.10.1/32', 'dev', 'lo']);
  cleanup.add(() => exec.run(['ip', 'address', 'delete', '10.215.10.1/32', 'dev', 'lo']));
  await container('lkmine');
  await container('lkother');
  // The way by address leads to the other one, as a stale or foreign route would.
  await exec.run(['ip', 'route', 'add', `${address}/32`, 'dev', 'lkother']);
  await rig.start();
  host = rig.host();
});
afterAll(async () => {
  await rig.stop();
  await cleanup.fail();
});

describe('the way from a host to a project', () => {
  it('is the project’s own link, wherever the routes lead', async () => {
    route(mine, 'lkmine');
    route(stranger, 'lkother');
    expect(await get(mine)).toMatch(/^lkmine /);
    expect(await get(stranger)).toMatch(/^lkother /);
    await exec.run(['ip', 'route', 'delete', `${address}/32`]);
    expect(await get(mine)).toMatch(/^lkmine /);
    await exec.run(['ip', 'route', 'add', 'unreachable', `${address}/32`]);
    expect(await get(stranger)).toMatch(/^lkother /);
    await exec.run(['ip', 'route', 'delete', 'unreachable', `${address}/32`]);
    await exec.run(['ip', 'route', 'add', `${address}/32`, 'dev', 'lkother']);
  });

  it('keeps connections for later requests, apart for each project', async () => {
    route(mine, 'lkmine');
    route(stranger, 'lkother');
    const connections = new Set<string>();
    for (let count = 0; count < 20; count += 1) {
      connections.add(await get(mine));
      connections.add(await get(stranger));
    }
    expect(connections.size).toBe(2);
  });

  it('is that link for WebSockets, too', async () => {
    route(mine, 'lkmine');
    const socket = new WebSocket(`ws://127.0.0.1:${host.port}/${mine}/port/80/`, {
      headers: { 'rookery-token': await tokenFor(mine) },
    });
    const said = await new Promise<string>((resolve, reject) => {
      socket.once('message', (data: Buffer) => resolve(data.toString()));
      socket.once('error', reject);
    });
    expect(said).toBe('lkmine');
    socket.terminate();
  });

  it('is none when the link is gone, though another has the address; and leaks nothing', async () => {
    await container('lkgone');
    await exec.run(['ip', 'link', 'delete', 'lkgone']);
    route(mine, 'lkgone');
    const refused = await ask(mine);
    expect(refused.status).toBe(502);
    expect(await refused.json()).toMatchObject({ code: 'PROXY_PORT_REFUSED' });
    const before = await openFiles();
    for (let count = 0; count < 100; count += 1) expect(await get(mine)).toBe('502');
    await waitFor('no descriptor is left', async () => (await openFiles()) <= before, {
      timeoutMs: 5000,
    });
    expect(await get(stranger)).toMatch(/^lkother /);
  });
});

import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { mkdtemp, mkdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import {
  hostNetworkNames,
  KeyedLock,
  newId,
  Reverter,
  SystemExec,
  type SpawnedProcess,
} from '@rookery/core';
import type { Egress, EgressMode, ProjectId } from '@rookery/core/contract';
import { ProjectNetwork } from '../src/podman/project-network.js';

const exec = new SystemExec();
const cidr = '10.215.30.0/24';
const cleanup = new Reverter();
let folder: string;

/** What lies outside of the host: one machine that answers at every address. */
const targets = {
  public: '203.0.113.5:80',
  publicTls: '203.0.113.5:443',
  private: '10.200.0.5:80',
  shared: '100.64.0.5:80',
  neighbor: '198.51.100.2:80',
  names: '10.200.0.53:53',
  namesHttp: '10.200.0.53:80',
  metadata: '169.254.169.254:80',
  alibaba: '100.100.100.200:80',
  azure: '168.63.129.16:80',
  oracle: '192.0.0.192:80',
} as const;
type Target = keyof typeof targets;
const outsideRoutes = [
  '203.0.113.0/24',
  '10.200.0.0/16',
  '100.64.0.0/10',
  '169.254.169.254/32',
  '168.63.129.16/32',
  '192.0.0.192/32',
];

async function inNamespace(...argv: string[]): Promise<SpawnedProcess> {
  const started = exec.spawn(['unshare', '--net', ...argv]);
  cleanup.add(async () => {
    started.kill('SIGKILL');
    await started.ended;
  });
  await new Promise((resolve) => started.stdout.once('data', resolve));
  return started;
}

/** Dials what it is told on stdin, one a line, and says what came of it; `hold` keeps it open. */
const dialer = `
const { connect } = require('node:net');
const dial = (line) => {
  const [word, address] = line.split(' ');
  const [host, port] = address.split(':');
  const socket = connect(Number(port), host);
  let said = false;
  const say = (what) => { if (!said) console.log(line + ' ' + what); said = true; };
  socket.setTimeout(3000, () => socket.destroy(new Error('TIMEOUT')));
  socket.on('error', () => say('no'));
  socket.on('data', () => {
    say('yes');
    if (word !== 'hold') return socket.destroy();
    socket.on('close', () => console.log('cut'));
    setInterval(() => socket.write('x'), 50);
  });
};
require('node:readline').createInterface(process.stdin).on('line', dial);
console.log('up');`;

const answering = `
const { createServer } = require('node:net');
const serve = (port) => createServer((s) => { s.on('error', () => 0); s.write('hello'); s.resume(); }).listen(port);
[80, 443, 53].forEach(serve);
console.log('up');`;

interface Project {
  readonly id: ProjectId;
  readonly address: string;
  reached(): Promise<Target[]>;
  ask(line: string): Promise<string>;
  /** Resolves when a held connection is cut. */
  readonly cut: Promise<void>;
}

async function projectOf(network: ProjectNetwork, egress?: Egress): Promise<Project> {
  const started = await inNamespace(process.execPath, '-e', dialer);
  const id = newId();
  const address = await network.reserve(id);
  await network.attach(id, address, started.pid ?? 0, egress);
  const answers = new Map<string, (answer: string) => void>();
  let isCut!: () => void;
  const cut = new Promise<void>((resolve) => (isCut = resolve));
  createInterface(started.stdout).on('line', (line) => {
    if (line === 'cut') isCut();
    const [word, target, answer = ''] = line.split(' ');
    answers.get(`${word} ${target}`)?.(answer);
  });
  const ask = (line: string): Promise<string> =>
    new Promise((resolve) => {
      answers.set(line, resolve);
      started.stdin.write(`${line}\n`);
    });
  const reached = async (): Promise<Target[]> => {
    const names = Object.keys(targets) as Target[];
    const said = await Promise.all(names.map((name) => ask(`dial ${targets[name]}`)));
    return names.filter((_, index) => said[index] === 'yes').sort();
  };
  return { id, address, reached, ask, cut };
}

let hosts = 0;
async function hostWith(mode: EgressMode, allow: string[] = []): Promise<ProjectNetwork> {
  hosts += 1;
  const hostKey = `egress-${hosts}`;
  const stateDir = join(folder, hostKey);
  await mkdir(stateDir);
  const network = new ProjectNetwork(
    exec,
    {
      hostKey,
      stateDir,
      cidr: cidr.replace('.0/24', `.${(hosts - 1) * 16}/28`),
      claimsDir: join(folder, 'claims'),
      hostPorts: [],
      egress: { mode, allow },
      deniedCidrs: [],
      resolvers: ['10.200.0.53'],
    },
    new KeyedLock(),
  );
  cleanup.add(() => network.destroy());
  await network.open();
  return network;
}

const everything = Object.keys(targets) as Target[];
const internet: Target[] = ['names', 'public', 'publicTls'];
const metadata: Target[] = ['metadata', 'alibaba', 'azure', 'oracle'];
const open = everything.filter((target) => !metadata.includes(target)).sort();

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'rookery-egress-'));
  cleanup.add(() => rm(folder, { recursive: true, force: true }));
  const { pid } = await inNamespace(process.execPath, '-e', answering);
  await exec.run(['ip', '-batch', '-'], {
    input: [
      `link add egout type veth peer name out netns ${pid}`,
      'address add 198.51.100.1/30 dev egout',
      'link set egout up',
      ...outsideRoutes.map((range) => `route add ${range} via 198.51.100.2 dev egout onlink`),
      '',
    ].join('\n'),
  });
  await exec.run(['nsenter', `--net=/proc/${pid}/ns/net`, 'ip', '-batch', '-'], {
    input: [
      'link set lo up',
      'address add 198.51.100.2/30 dev out',
      'link set out up',
      'route add local 0.0.0.0/0 dev lo',
      '',
    ].join('\n'),
  });
});
afterAll(() => cleanup.fail());

describe('what projects reach outside', () => {
  it('is the internet and names by default, and nothing internal of any cloud', async () => {
    const project = await projectOf(await hostWith('internet'));
    expect(await project.reached()).toEqual(internet);
  });

  it('is private networks too when the host is open, but never metadata', async () => {
    const host = await hostWith('open');
    expect(await (await projectOf(host)).reached()).toEqual(open);
    const stricter = await projectOf(host, { mode: 'internet', allow: [] });
    expect(await stricter.reached()).toEqual(internet);
    const listed = await projectOf(host, {
      mode: 'allow-list',
      allow: ['10.200.0.5:80/tcp', '203.0.113.0/24:440-450', '169.254.169.254'],
    });
    expect(await listed.reached()).toEqual(['names', 'private', 'publicTls']);
    expect(await (await projectOf(host, { mode: 'none', allow: [] })).reached()).toEqual([]);
  });

  it('is what a list names and no more, also when a project would be open', async () => {
    const host = await hostWith('allow-list', ['10.200.0.5:80', '203.0.113.5:443/tcp']);
    const listed = ['names', 'private', 'publicTls'];
    expect(await (await projectOf(host)).reached()).toEqual(listed);
    expect(await (await projectOf(host, { mode: 'open', allow: [] })).reached()).toEqual(listed);
    const both = await projectOf(host, { mode: 'allow-list', allow: ['203.0.113.5'] });
    expect(await both.reached()).toEqual(['names', 'publicTls']);
  });

  it('is nothing where the host says so, names neither', async () => {
    const host = await hostWith('none', ['203.0.113.5']);
    expect(await (await projectOf(host, { mode: 'open', allow: [] })).reached()).toEqual([]);
  });

  it('is beside the internet what the operator lists, metadata too', async () => {
    const host = await hostWith('internet', ['10.200.0.5:80', '169.254.169.254:80']);
    const more = [...internet, 'private', 'metadata'].sort();
    expect(await (await projectOf(host)).reached()).toEqual(more);
    const own = await projectOf(host, { mode: 'internet', allow: [] });
    expect(await own.reached()).toEqual(internet);
  });

  it('changes at once, for connections that are open too, and stays after all rules are lost', async () => {
    const host = await hostWith('internet');
    const project = await projectOf(host);
    const { id, address } = project;
    const hold = `hold ${targets.public}`;
    expect(await project.ask(hold)).toBe('yes');
    await host.setPolicy(id, { mode: 'none', allow: [] });
    await project.cut;
    expect(await project.reached()).toEqual([]);

    const wanted = async () => ({
      addresses: new Map([[id, address]]),
      egress: new Map<ProjectId, Egress>([
        [id, { mode: 'allow-list', allow: ['203.0.113.5:443'] }],
      ]),
    });
    // The record says otherwise: it is the truth.
    expect(await host.repair(wanted)).toMatchObject([{ kind: 'loadRules' }]);
    expect(await project.reached()).toEqual(['names', 'publicTls']);
    expect(await host.repair(wanted)).toEqual([]);
    await host.open();
    expect(await project.reached()).toEqual(['names', 'publicTls']);
    await exec.run(['nft', 'delete', 'table', 'inet', hostNetworkNames(`egress-${hosts}`).table]);
    await host.repair(wanted);
    expect(await project.reached()).toEqual(['names', 'publicTls']);
  });
});

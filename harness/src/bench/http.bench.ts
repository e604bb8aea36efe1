import { generateKeyPairSync } from 'node:crypto';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { AccessTokenMinter, newId, Reverter, SystemExec, waitFor } from '@rookery/core';
import { freePort } from './free-port.js';
import type { Role, RoleSettings } from './http-roles.js';
import { rowOf, type BenchRow } from './report.js';

const rounds = 5;
const seconds = 4;
const connections = 64;
const exec = new SystemExec();

/**
 * Requests a second through our proxies, next to httpxy alone and nginx before the same origin.
 * The load generator and the origin share one core; each hop that is measured has the other.
 */
export async function benchHttp(): Promise<BenchRow[]> {
  await using undo = new Reverter();
  const settings = newSettings();
  const origin = await startRole('origin', 0, settings, '0', undo);
  const host = await startRole('host', origin, settings, '1', undo);
  const hub = await startRole('hub', host, settings, '1', undo);
  const one = await startRole('httpxy', origin, settings, '1', undo);
  const two = await startRole('httpxy', one, settings, '1', undo);
  const nginx = await startNginx(origin, undo);
  const token = await mintToken(settings);
  const path = `/${settings.projectId}/port/${origin}/`;
  const targets = {
    host: { url: `http://127.0.0.1:${host}${path}`, header: `Rookery-Token: ${token}` },
    hub: { url: `http://127.0.0.1:${hub}${path}`, header: 'Authorization: Bearer x' },
    one: { url: `http://127.0.0.1:${one}${path}`, header: 'X-Peer: 1' },
    two: { url: `http://127.0.0.1:${two}${path}`, header: 'X-Peer: 1' },
    nginx: { url: `http://127.0.0.1:${nginx}${path}`, header: 'X-Peer: 1' },
  };
  const rates: Record<keyof typeof targets, number[]> = {
    host: [],
    hub: [],
    one: [],
    two: [],
    nginx: [],
  };
  for (let n = 0; n < rounds; n += 1) {
    for (const [name, { url, header }] of Object.entries(targets)) {
      rates[name as keyof typeof targets].push(await requestsPerSecond(url, header));
    }
    process.stderr.write(`  round ${n + 1} of ${rounds}\n`);
  }
  const row = (
    name: string,
    ours: number[],
    peerName: string,
    peer: number[],
    goal?: number,
  ): BenchRow =>
    rowOf({
      row: name,
      unit: 'requests/s',
      lessIsBetter: false,
      ours,
      peer: { name: peerName, values: peer },
      ...(goal !== undefined && { goal: { ratio: goal } }),
    });
  return [
    row('one hop (host)', rates.host, 'httpxy alone', rates.one, 0.9),
    row('one hop (host)', rates.host, 'nginx', rates.nginx),
    row('two hops (hub, host)', rates.hub, 'httpxy twice', rates.two, 0.81),
    row('two hops (hub, host)', rates.hub, 'nginx once', rates.nginx),
  ];
}

function newSettings(): RoleSettings {
  const { privateKey, publicKey } = generateKeyPairSync('ed25519');
  const { x } = publicKey.export({ format: 'jwk' });
  return {
    projectId: newId(),
    hostId: newId(),
    accountId: newId(),
    privateKey: privateKey.export({ format: 'jwk' }),
    verificationKey: { kid: 'bench', kty: 'OKP', crv: 'Ed25519', x: x ?? '' },
  };
}

async function mintToken(settings: RoleSettings): Promise<string> {
  const { createPrivateKey } = await import('node:crypto');
  const key = createPrivateKey({ key: settings.privateKey, format: 'jwk' });
  return new AccessTokenMinter(key, 'bench').mint({
    aud: `host:${settings.hostId}`,
    sub: `account:${settings.accountId}`,
    project: settings.projectId,
    role: 'owner',
  });
}

async function startRole(
  role: Role,
  upstreamPort: number,
  settings: RoleSettings,
  core: string,
  undo: Reverter,
): Promise<number> {
  const script = join(import.meta.dirname, 'http-roles.js');
  const child = exec.spawn([
    'taskset',
    '-c',
    core,
    process.execPath,
    script,
    role,
    String(upstreamPort),
    JSON.stringify(settings),
  ]);
  undo.add(async () => {
    child.kill();
    await child.ended;
  });
  return new Promise((resolve, reject) => {
    child.stdout.once('data', (line: Buffer) => resolve(Number(line.toString())));
    void child.ended.then((end) => reject(new Error(`${role} ended: ${end.stderr}`)));
  });
}

async function startNginx(upstreamPort: number, undo: Reverter): Promise<number> {
  const folder = await mkdtemp(join(tmpdir(), 'rookery-nginx-'));
  undo.add(() => rm(folder, { recursive: true, force: true }));
  await mkdir(join(folder, 'logs'));
  const port = await freePort();
  const config = join(folder, 'nginx.conf');
  await writeFile(
    config,
    `daemon off; worker_processes 1; pid ${folder}/pid; error_log ${folder}/error.log;
events { worker_connections 1024; }
http {
  access_log off; client_body_temp_path ${folder}/b; proxy_temp_path ${folder}/p;
  fastcgi_temp_path ${folder}/f; uwsgi_temp_path ${folder}/u; scgi_temp_path ${folder}/s;
  keepalive_requests 1000000;
  upstream origin { server 127.0.0.1:${upstreamPort}; keepalive 64; keepalive_requests 1000000; }
  server {
    listen 127.0.0.1:${port};
    location / {
      proxy_pass http://origin; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    }
  }
}
`,
  );
  const child = exec.spawn(['taskset', '-c', '1', 'nginx', '-p', folder, '-c', config]);
  undo.add(async () => {
    child.kill();
    await child.ended;
  });
  await waitFor(
    'nginx answers',
    async () => (await fetch(`http://127.0.0.1:${port}/`).catch(() => undefined))?.ok,
    { timeoutMs: 10_000 },
  );
  return port;
}

/** @throws when any answer was not a success: a fast error page is no figure. */
async function requestsPerSecond(url: string, header: string): Promise<number> {
  const check = await fetch(url, { headers: [header.split(': ') as [string, string]] });
  if (!check.ok) throw new Error(`${url} answered ${check.status}`);
  await check.arrayBuffer();
  const { stdout } = await exec.run([
    'taskset',
    '-c',
    '0',
    'wrk',
    '-t',
    '1',
    '-c',
    String(connections),
    '-d',
    `${seconds}s`,
    '-H',
    header,
    url,
  ]);
  const rate = /Requests\/sec:\s+([\d.]+)/.exec(stdout)?.[1];
  if (!rate || /Non-2xx/.test(stdout)) throw new Error(`wrk against ${url}: ${stdout}`);
  return Number(rate);
}

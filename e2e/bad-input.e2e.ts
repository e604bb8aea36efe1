import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { RookeryClient } from '@rookery/client';
import type { OperationView, ProjectView } from '@rookery/api';
import { ConatClient } from '@rookery/conat';
import { createServiceClient } from '@rookery/rpc';
import { joiningIdentityName } from '@rookery/fleet';
import { hostRegistration } from '@rookery/fleet/contract';
import { CodedError, MiB, SystemExec, waitFor } from '@rookery/core';
import { Cluster } from '@rookery/harness';
import { randomBytes, randomUUID } from 'node:crypto';
import { access, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { postHuge, rawGet } from './support/raw-http.js';

/** What makes no sense is refused with its code, at once, and costs nobody anything. */
describe('bad input', () => {
  let cluster: Cluster;
  let project: ProjectView;
  let token: string;
  let hash: string;
  const undone: ProjectView[] = [];
  const hostNames = ['host-1', 'host-2'];
  /** A host that joined and was never heard of again. */
  const silentHost = 'silent';
  let silentHostId: string;

  beforeAll(async () => {
    cluster = await Cluster.start({ hosts: 2 });
    token = await cluster.token();
    const { items } = await cluster.client.listProjects({ name: 'hello' });
    project = items[0] as ProjectView;
    // Random, so that moving it takes a while.
    await cluster.run(project.id, 'head -c 150M /dev/urandom > ~/keep && sync');
    hash = await cluster.run(project.id, 'sha256sum ~/keep');
  }, 300_000);

  afterAll(async () => {
    await cluster?.destroy();
  }, 240_000);

  const other = (): string => hostNames.find((name) => name !== project.host) ?? '';

  /** The API without a client that would check first; `-> status CODE`. */
  async function call(
    line: string,
    body?: unknown,
    headers: Record<string, string> = { authorization: `Bearer ${token}` },
  ): Promise<string> {
    const [method = '', path = ''] = line.split(' ');
    const response = await fetch(`${cluster.url}/api/v1${path}`, {
      method,
      headers: { 'content-type': 'application/json', ...headers },
      ...(body !== undefined && { body: typeof body === 'string' ? body : JSON.stringify(body) }),
    });
    const text = await response.text();
    if (response.ok) return `${response.status}`;
    const type = response.headers.get('content-type') ?? '';
    if (!type.startsWith('application/problem+json')) return `${response.status} ${type} ${text}`;
    return `${response.status} ${(JSON.parse(text) as { code: string }).code}`;
  }

  /** The code that a promise rejects with. */
  const codeOf = (work: Promise<unknown>): Promise<string> =>
    work.then(
      () => 'nothing was refused',
      (error: unknown) => (CodedError.is(error) ? error.code : String(error)),
    );

  test('names, ids, sizes and paths that make no sense', async () => {
    const here = `/projects/${project.id}`;
    const create = (body: object): [string, unknown] => ['POST /projects', body];
    const cases: [string, unknown, string][] = [
      [...create({}), '400 INVALID_INPUT'],
      [...create({ name: '   ' }), '400 INVALID_INPUT'],
      [...create({ name: 'x'.repeat(101) }), '400 INVALID_INPUT'],
      [...create({ name: 'a\nb' }), '400 INVALID_INPUT'],
      [...create({ name: 7 }), '400 INVALID_INPUT'],
      [...create({ name: 'a', quota: { diskBytes: -1 } }), '400 INVALID_INPUT'],
      [...create({ name: 'a', quota: { diskBytes: 1e30 } }), '400 INVALID_INPUT'],
      [...create({ name: 'a', quota: { diskBytes: '10G' } }), '400 INVALID_INPUT'],
      [...create({ name: 'a', quota: { memoryBytes: 1 } }), '400 INVALID_INPUT'],
      [...create({ name: 'a', quota: { cpus: 0 } }), '400 INVALID_INPUT'],
      [...create({ name: 'a', quota: { pidsMax: 1.5 } }), '400 INVALID_INPUT'],
      [...create({ name: 'a', image: '' }), '400 INVALID_INPUT'],
      [...create({ name: 'a', image: 'x'.repeat(600) }), '400 INVALID_INPUT'],
      [...create({ name: 'a', image: 'Not An Image' }), '400 IMAGE_INVALID'],
      [...create({ name: 'a', image: 'dir:/../etc' }), '400 IMAGE_INVALID'],
      [...create({ name: 'a', host: 'nowhere' }), '404 HOST_UNKNOWN'],
      [...create({ name: 'a', quota: { diskBytes: 500 * 1024 ** 4 } }), '409 NO_HOST'],
      ['POST /projects', '{"name":', '400 INVALID_JSON'],
      ['POST /projects', '["a"]', '400 INVALID_INPUT'],
      ['GET /projects/none', undefined, '400 INVALID_INPUT'],
      ['GET /projects/..%2f..%2fetc', undefined, '400 INVALID_INPUT'],
      [`GET /projects/${randomUUID()}`, undefined, '404 PROJECT_UNKNOWN'],
      [`GET /hosts/${randomUUID()}`, undefined, '404 HOST_UNKNOWN'],
      [`GET /operations/${randomUUID()}`, undefined, '404 OPERATION_UNKNOWN'],
      ['GET /projects?limit=0', undefined, '400 INVALID_INPUT'],
      ['GET /projects?cursor=%00%ff', undefined, '400 INVALID_INPUT'],
      ['GET /none', undefined, '404 ROUTE_UNKNOWN'],
      [`PATCH ${here}`, { publicPorts: [0] }, '400 INVALID_INPUT'],
      [`PATCH ${here}`, { publicPorts: [70_000] }, '400 INVALID_INPUT'],
      [`DELETE ${here}?force=maybe`, undefined, '400 INVALID_INPUT'],
      [`POST ${here}/snapshots`, { name: '../out' }, '400 INVALID_INPUT'],
      [`POST ${here}/snapshots`, { name: 'move-1' }, '400 INVALID_INPUT'],
      [`DELETE ${here}/snapshots/none`, undefined, '404 SNAPSHOT_NOT_FOUND'],
      [`POST ${here}/snapshots/none/restore`, { path: '../../etc' }, '400 INVALID_INPUT'],
      [`POST ${here}/snapshots/none/restore`, { path: '/etc/passwd' }, '400 INVALID_INPUT'],
      [`POST ${here}/backups/..%2f..%2fx/restore`, {}, '400 INVALID_INPUT'],
    ];
    const answers = [];
    for (const [line, body] of cases) answers.push([line, body, await call(line, body)]);
    expect(answers).toEqual(cases);
    expect((await cluster.client.listProjects({ name: 'a' })).items).toEqual([]);
  });

  test('the command line: wrong usage ends with 2, a refusal with 1, both with a code', async () => {
    const cases: [string[], number, string][] = [
      [['project', 'nonsense'], 2, 'USAGE'],
      [['project', 'create'], 2, 'USAGE'],
      [['project', 'create', 'a', '--disk', '10X'], 2, 'USAGE'],
      [['project', 'create', 'a', '--cpu', '-1'], 2, 'USAGE'],
      [['project', 'update', 'hello', '--public-ports', '70000'], 2, 'USAGE'],
      [['project', 'show', 'nowhere'], 1, 'PROJECT_UNKNOWN'],
      [['project', 'create', ' '], 1, 'INVALID_INPUT'],
      [['project', 'move', 'hello', '--to', 'nowhere'], 1, 'HOST_UNKNOWN'],
      [['snapshot', 'create', 'hello', '../out'], 1, 'INVALID_INPUT'],
    ];
    const answers = await Promise.all(
      cases.map(async ([args]) => {
        const { exit, stdout, stderr } = await cluster.cli([...args, '--json']);
        return [args, exit, /"code":"(\w+)"/.exec(stderr)?.[1] ?? `${stdout}${stderr}`];
      }),
    );
    expect(answers).toEqual(cases);
    // Alone: it keeps the project busy until it finds nothing.
    const restore = await cluster.cli(['snapshot', 'restore', 'hello', 'none', '--yes']);
    expect(restore.exit).toBe(1);
    expect(restore.stderr).toContain('(SNAPSHOT_NOT_FOUND)');
  });

  test('an unknown image: said by the operation, the project and the command line', async () => {
    const image = 'localhost/none:1';
    const { exit, stderr } = await cluster.cli([
      'project',
      'create',
      'no-image',
      '--image',
      image,
      '--start',
      '--json',
    ]);
    expect({ exit, code: /"code":"(\w+)"/.exec(stderr)?.[1] }).toEqual({
      exit: 1,
      code: 'IMAGE_UNKNOWN',
    });
    const { items } = await cluster.client.listProjects({ name: 'no-image' });
    const made = items[0] as ProjectView;
    expect(made).toMatchObject({ state: 'error', error: { code: 'IMAGE_UNKNOWN' } });
    undone.push(made);
    const { operation } = await cluster.client.deleteProject({ projectId: made.id });
    await cluster.client.waitForOperation(operation.id);
  });

  test('a quota below use is refused and the old one stays', async () => {
    const quota = { diskBytes: 64 * MiB };
    expect(await call(`PATCH /projects/${project.id}`, { quota })).toBe('409 QUOTA_BELOW_USE');
    const now = await cluster.client.getProject({ projectId: project.id });
    expect(now.quota).toEqual(project.quota);
    await cluster.run(project.id, 'head -c 1M /dev/zero > ~/more && sync && rm ~/more');
  });

  test('a join token admits one host, and that one again; a full host gets nothing', async () => {
    const join = await cluster.client.createJoinToken({});
    const key = (): string => `ssh-ed25519 ${randomBytes(51).toString('base64')}`;
    const identityKey = (letter: string): string => `U${letter.repeat(55)}`;
    const registration = {
      joinToken: join.token,
      name: silentHost,
      region: 'default',
      version: '0.1.0',
      identityKey: identityKey('A'),
      transferKey: key(),
      ingressKey: key(),
      publicUrl: 'http://127.0.0.1:1',
      internalUrl: 'http://127.0.0.1:1',
      sshHost: '127.0.0.1',
      sshPort: 1,
      capabilities: {
        storageDriver: 'btrfs' as const,
        quota: 'simple' as const,
        backupDrivers: [],
        snapshots: true,
        sendReceive: true,
        sendProtocol: 2,
      },
      capacity: {
        diskBytes: 1024 * MiB,
        diskFreeBytes: 0,
        memoryBytes: 1024 * MiB,
        memoryFreeBytes: 1024 * MiB,
        cpus: 1,
        projectsRunning: 0,
      },
    };
    const register = async (input: typeof registration): Promise<string> => {
      const client = await ConatClient.connect({
        servers: `${cluster.url.replace(/^http/, 'ws')}/conat`,
        identity: joiningIdentityName(input.joinToken),
        credentials: { token: input.joinToken },
        connectTimeoutMs: 5000,
      });
      try {
        return (await createServiceClient(client, hostRegistration, {}).register(input)).hostId;
      } finally {
        await client.close();
      }
    };
    silentHostId = await register(registration);
    // The first answer may have been lost.
    expect(await register(registration)).toBe(silentHostId);
    const thief = { ...registration, identityKey: identityKey('B'), name: 'thief' };
    expect(await codeOf(register(thief))).toBe('JOIN_TOKEN_INVALID');
    expect(await codeOf(register({ ...thief, joinToken: `${join.token}x` }))).not.toMatch(
      /nothing/,
    );
    const names = (await cluster.client.listHosts()).items.map((host) => host.name);
    expect(names.sort()).toEqual([...hostNames, silentHost]);
    expect(await call(`POST /projects/${project.id}/move`, { host: silentHost })).toBe(
      '507 DESTINATION_FULL',
    );
  });

  test('an API call without, with a revoked and with another account’s key', async () => {
    const bearer = (key: string) => ({ authorization: `Bearer ${key}` });
    const show = `GET /projects/${project.id}`;
    expect(await call(show, undefined, {})).toBe('401 UNAUTHENTICATED');
    expect(await call(show, undefined, bearer('nonsense'))).toBe('401 UNAUTHENTICATED');
    const made = await cluster.client.createApiKey({ name: 'short-lived' });
    expect(await call(show, undefined, bearer(made.token))).toBe('200');
    await cluster.client.deleteApiKey({ keyId: made.key.id });
    expect(await call(show, undefined, bearer(made.token))).toBe('401 UNAUTHENTICATED');

    const stranger = bearer(
      (await cluster.client.createAccount({ email: 's@example.org', name: 'S' })).token,
    );
    const unknown = '404 PROJECT_UNKNOWN';
    expect(await call(show, undefined, stranger)).toBe(unknown);
    expect(await call(`DELETE /projects/${project.id}?force=true`, undefined, stranger)).toBe(
      unknown,
    );
    expect(await call(`POST /projects/${project.id}/move`, {}, stranger)).toBe(unknown);
    expect(await call('POST /hosts/join-tokens', {}, stranger)).toBe('403 FORBIDDEN');
  });

  test('a viewer sees the project, runs nothing in it and changes nothing', async () => {
    const viewer = await cluster.client.createAccount({ email: 'v@example.org', name: 'V' });
    const { id: accountId } = viewer.account;
    await cluster.client.putCollaborator({ projectId: project.id, accountId, role: 'viewer' });
    const client = new RookeryClient({ url: cluster.url, token: viewer.token });
    try {
      expect((await client.getProject({ projectId: project.id })).role).toBe('viewer');
      const exec = async (): Promise<unknown> => {
        const running = await client.exec(project.id, { command: ['touch', '/root/viewed'] });
        running.stdin.end();
        running.stdout.resume();
        running.stderr.resume();
        return running.result;
      };
      expect(await codeOf(exec())).toBe('SERVICE_FORBIDDEN');
      expect(await codeOf(client.stopProject({ projectId: project.id }))).toBe('FORBIDDEN');
    } finally {
      await client.close();
    }
    expect(await cluster.run(project.id, 'ls /root/viewed 2>&1 || true')).toMatch(/No such file/);
  });

  test.each([
    { announced: true, connection: 'keep-alive' },
    { announced: false, connection: 'close' },
  ] as const)('a body of 100 MB is refused at once: %j', async (way) => {
    const residentBytes = await hubMemory();
    const before = await residentBytes();
    const begun = Date.now();
    const answer = await postHuge(`${cluster.url}/api/v1/projects`, {
      ...way,
      token,
      bytes: 100 * MiB,
    });
    expect(answer).toMatchObject({ status: 413, code: 'PAYLOAD_TOO_LARGE' });
    expect(Date.now() - begun).toBeLessThan(3000);
    expect(answer.sentBytes).toBeLessThan(50 * MiB);
    expect((await residentBytes()) - before).toBeLessThan(50 * MiB);
  });

  /** Measures the hub process's resident memory. */
  async function hubMemory(): Promise<() => Promise<number>> {
    const { stdout } = await cluster.cli(['status', '--json']);
    const { processes } = JSON.parse(stdout) as { processes: { name: string; pid: number }[] };
    const pid = processes.find((part) => part.name === 'hub')?.pid;
    return async () => {
      const status = await readFile(`/proc/${pid}/status`, 'utf8');
      return Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1]) * 1024;
    };
  }

  test('request paths that try to get somewhere else', async () => {
    const base = `/${project.id}`;
    const cases: [string, string][] = [
      [`${base}/port/8080/../../../etc/passwd`, '400 PROXY_PATH_INVALID'],
      [`${base}/port/8080/%2e%2e/x`, '400 PROXY_PATH_INVALID'],
      // Its own service's matter: there is no such file.
      [`${base}/port/8080/a%2fb`, '404 text/html'],
      [`${base}/port/8080/a%2f..%2fb`, '400 PROXY_PATH_INVALID'],
      [`${base}/port/8080/a%5cb`, '400 PROXY_PATH_INVALID'],
      [`${base}/port/8080/%00`, '400 PROXY_PATH_INVALID'],
      [`${base}/port/8080/%zz`, '400 PROXY_PATH_INVALID'],
      [`${base}%2fport/8080/`, '400 PROXY_PATH_INVALID'],
      [`/${base}/port/8080/`, '400 PROXY_PATH_INVALID'],
      [`${base}/elsewhere/8080/`, '400 PROXY_PATH_INVALID'],
      ['/port/8080/', '400 PROXY_PATH_INVALID'],
      ['/nobody/port/8080/', '400 PROXY_PATH_INVALID'],
      [`${base}/port/0/`, '400 PROXY_PORT_INVALID'],
      [`${base}/port/70000/`, '400 PROXY_PORT_INVALID'],
      [`${base}/port/-1/`, '400 PROXY_PORT_INVALID'],
      [`${base}/port/08080/`, '400 PROXY_PORT_INVALID'],
      [`${base}/port/1/`, '502 PROXY_PORT_REFUSED'],
      [`/${randomUUID()}/port/8080/`, '404 PROXY_PROJECT_UNKNOWN'],
      ['/api/v1/../../etc/passwd', '404 ROUTE_UNKNOWN'],
      ['/api/v1/%', '404 ROUTE_UNKNOWN'],
      ['/..', '404 ROUTE_UNKNOWN'],
    ];
    const answers = [];
    for (const [target] of cases) {
      const { status, type, code } = await rawGet(cluster.url, target, token);
      const problem = type === 'application/problem+json' ? code : type;
      answers.push([target, `${status} ${problem}`]);
    }
    expect(answers).toEqual(cases);
    expect((await cluster.client.getHealth()).status).toBe('ok');
  });

  test('deleting while running needs force', async () => {
    expect(await call(`DELETE /projects/${project.id}`)).toBe('409 PROJECT_RUNNING');
  });

  test('while it moves: no second move, no start, no delete, no other change', async () => {
    const here = `/projects/${project.id}`;
    const destination = other();
    const { operation } = await cluster.client.moveProject({
      projectId: project.id,
      host: destination,
    });
    const moving = '409 PROJECT_MOVING';
    const answers = await Promise.all([
      call(`POST ${here}/move`, { host: destination }),
      call(`POST ${here}/start`, {}),
      call(`POST ${here}/stop`, {}),
      call(`DELETE ${here}`),
      call(`DELETE ${here}?force=true`),
      call(`PATCH ${here}`, { quota: { diskBytes: 2048 * MiB } }),
      call(`POST ${here}/archive`, {}),
    ]);
    expect(answers).toEqual(answers.map(() => moving));
    await cluster.client.waitForOperation(operation.id);
    project = await cluster.client.getProject({ projectId: project.id });
    expect(project).toMatchObject({ host: destination, state: 'running', move: null });
  });

  test('moves that cannot be', async () => {
    const move = `POST /projects/${project.id}/move`;
    expect(await call(move, { host: project.host })).toBe('400 MOVE_SAME_HOST');
    expect(await call(move, { host: 'nowhere' })).toBe('404 HOST_UNKNOWN');
    await waitFor(
      'the silent host is offline',
      async () => {
        const { items } = await cluster.client.listHosts();
        return items.find((host) => host.name === silentHost)?.status === 'offline';
      },
      { timeoutMs: 30_000 },
    );
    expect(await call(move, { host: silentHost })).toBe('409 HOST_OFFLINE');
    await cluster.client.removeHost({ hostId: silentHostId });
    expect(await call(move, { host: silentHost })).toBe('404 HOST_UNKNOWN');
  });

  test('afterwards nothing is lost and nothing lies around', async () => {
    expect(await cluster.run(project.id, 'sha256sum ~/keep')).toBe(hash);
    const page = `${project.url}8080/`;
    const headers = { authorization: `Bearer ${token}` };
    await waitFor('the page answers', async () => (await fetch(page, { headers })).ok, {
      timeoutMs: 30_000,
    });
    const { stdout } = await cluster.cli(['op', 'list', '--limit', '500', '--json']);
    const operations = JSON.parse(stdout) as OperationView[];
    const ended = ['succeeded', 'failed', 'canceled'];
    expect(operations.filter((each) => !ended.includes(each.state))).toEqual([]);
    for (const name of hostNames) {
      const volume = await cluster.volumeOf(name);
      await waitFor(`nothing half-done on ${name}`, async () => !(await temporaries(volume)), {
        timeoutMs: 30_000,
      });
      const kept = await exists(join(volume, `project-${project.id}`));
      expect(kept).toBe(name === project.host);
      for (const { id } of undone) {
        expect(await exists(join(volume, `project-${id}`))).toBe(false);
      }
    }
  });

  const exists = (path: string): Promise<boolean> =>
    access(path).then(
      () => true,
      () => false,
    );

  /** Subvolumes of landing areas and frozen pictures, if any is left. */
  async function temporaries(volume: string): Promise<string> {
    const { stdout } = await new SystemExec().run(['btrfs', 'subvolume', 'list', volume]);
    return stdout
      .split('\n')
      .filter((line) => /(?:_incoming|_frozen)\//.test(line))
      .join('\n');
  }
});

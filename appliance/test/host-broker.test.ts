import { projectSpaceRoot } from '@rookery/fleet/contract';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { Authenticator, Broker, type ConatIdentity } from '@rookery/conat';
import { accountPermissions } from '@rookery/fleet';
import { createLogger, newId, SystemClock, waitFor } from '@rookery/core';
import { ProjectSpec } from '@rookery/core/contract';
import { AccessStore } from '../src/access/access-store.js';
import { AccessSync } from '../src/access/access-sync.js';
import { HostBroker } from '../src/access/host-broker.js';
import { ProjectTokens } from '../src/access/project-tokens.js';
import { ProjectRepository } from '../src/projects/project.repository.js';
import { openDatabase } from '../src/database/database.js';
import { FakeAccess } from './fake-access.js';
import type { HostDatabase } from '../src/database/host-database.js';

const [A, B, P, Q] = [newId(), newId(), newId(), newId()] as [string, string, string, string];
const spec = ProjectSpec.parse({
  image: 'x',
  quota: { diskBytes: 1024 ** 3, memoryBytes: 1024 ** 3, cpus: 1, pidsMax: 100 },
});
const log = createLogger('test', 'silent');
const clock = new SystemClock();

let folder: string;
let database: HostDatabase;
let books: ProjectRepository;
let access: AccessStore;
let sync: AccessSync;
let tokens: ProjectTokens;
let host: HostBroker;
let broker: Broker;
const ownId = process.getuid?.() ?? 0;

/** An account of the rights of now, by its id. */
class ById extends Authenticator {
  async authenticate({ options }: { options: { auth_token?: string } }) {
    const [id = '', credential] = (options.auth_token ?? '').split(' with ');
    const projectId = host.projectOf(id);
    const projects = host.projectsOf(id);
    if (projectId !== null) {
      const permissions = accountPermissions(projectId, []);
      return { name: `project-${projectId}`, permissions } satisfies ConatIdentity;
    }
    const permissions = accountPermissions(id, projects ?? []);
    return projects && { name: `account-${id}`, permissions, ...(credential && { credential }) };
  }
}

async function build(offlineMs = 60_000): Promise<void> {
  books = new ProjectRepository(database, clock);
  access = new AccessStore(database, clock, offlineMs);
  await access.open();
  tokens = new ProjectTokens({
    folder: join(folder, 'tokens'),
    conatUrl: 'ws://x',
    logger: log,
    verifier: { verify: async () => ({ role: 'project', project: P }) } as never,
  });
  tokens.attach(async (projectId) => `token of ${projectId}`);
  await tokens.open();
  sync = new AccessSync(access, clock, log);
  host = new HostBroker({ books, access, sync, tokens });
  await host.open();
  broker = new Broker({ spaceRoot: projectSpaceRoot, authenticator: new ById() });
  host.attach(broker);
}

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'rookery-broker-'));
  database = await openDatabase(join(folder, 'host.sqlite'));
  await build();
});
afterEach(async () => {
  access.close();
  await database.close();
  await rm(folder, { recursive: true });
});

const put = (id: string, change: object): Promise<unknown> =>
  books.change(id, (_, save) => save({ generation: 1, spec, ...change }));

/** A connection, and what it is told. */
async function enter(token: string) {
  let text = '';
  let reason = '';
  const connection = broker.accept({
    kind: 'memory' as const,
    peer: 'test',
    bufferedBytes: 0,
    pause: () => undefined,
    resume: () => undefined,
    send: (frame) => void (text += frame.toString('latin1')),
    close: (_code, why) => void (reason = why),
  });
  const say = (line: string): void => connection.receive(Buffer.from(`${line}\r\n`));
  say(`CONNECT {"verbose":false,"auth_token":"${token}"}\r\nPING`);
  const told = (what: RegExp): Promise<unknown> =>
    waitFor(String(what), () => what.test(text + reason), { timeoutMs: 10_000, everyMs: 5 });
  await told(/PONG|Authorization Violation/);
  return { say, told, isIn: () => reason === '' };
}

describe('connections of a host', () => {
  beforeEach(async () => {
    await put(P, { state: 'running' });
    await put(Q, { state: 'stopped' });
    await access.replace(1, [
      { accountId: A, projects: [P, Q].map((projectId) => ({ projectId, role: 'owner' })) },
      { accountId: B, projects: [{ projectId: newId(), role: 'owner' }] },
    ]);
  });

  it('of accounts end where a project leaves, and where it is only said to be', async () => {
    const account = await enter(A);
    account.say(`SUB project.${P}.x 1\r\nSUB project.${Q}.x 2`);
    expect((await enter(B)).isIn()).toBe(false);
    await books.leave(P, 'http://elsewhere');
    await account.told(new RegExp(`Subscription to "project.${P}.x" \\(sid "1"\\)`));
    expect(account.isIn()).toBe(true);
    await books.redirect(Q, 'http://elsewhere');
    await account.told(/Revoked/);
    expect((await enter(A)).isIn()).toBe(false);
  });

  it('of accounts stay over a gap, but for those whose key has ended', async () => {
    const hub = new FakeAccess();
    await put(P, { state: 'running' });
    for (const id of [A, B]) hub.set(id, [{ projectId: P, role: 'owner' }]);
    sync.attach({
      access: async ({ since, after }: { since?: number; after?: string }) =>
        hub.answer(since, after),
      credentials: async ({ credentialIds }: { credentialIds: string[] }) =>
        hub.credentials(credentialIds),
    } as never);
    await access.replace(hub.revision, [
      ...[A, B].map((accountId) => ({
        accountId,
        projects: [{ projectId: P, role: 'owner' as const }],
      })),
    ]);
    const [gone, good] = [newId(), newId()];
    const first = await enter(`${A} with ${gone}`);
    const second = await enter(`${A} with ${good}`);
    const other = await enter(`${B} with ${newId()}`);
    hub.revoke(A, gone);
    hub.set(newId(), []);
    hub.knownFrom = hub.revision;
    await sync.learn(hub.revision);
    await first.told(/Revoked/);
    expect([second.isIn(), other.isIn()]).toEqual([true, true]);
    // So it is when the end of a key is told.
    hub.revoke(A, good);
    await sync.learn(hub.revision);
    await second.told(/Revoked/);
    expect(other.isIn()).toBe(true);
  });

  it('of accounts expire when the hub has been away too long', async () => {
    access.close();
    await build(2_000);
    await put(P, { state: 'running' });
    await access.confirm();
    const account = await enter(A);
    expect(account.isIn()).toBe(true);
    await account.told(/Expired/);
    expect((await enter(A)).isIn()).toBe(false);
    await access.confirm();
    expect((await enter(A)).isIn()).toBe(true);
  });

  it('of a project’s programs live as long as its container, agents may change', async () => {
    const first = await tokens.prepare(P, 1, ownId);
    expect((await tokens.prepare(P, 1, ownId)).runFolder).toBe(first.runFolder);
    const token = `token of ${P}`;
    await build();
    const program = await enter(token);
    expect(program.isIn()).toBe(true);
    await put(P, { state: 'stopped' });
    await program.told(/Revoked/);
    expect((await enter(token)).isIn()).toBe(false);
    expect((await tokens.prepare(P, 2, ownId)).runFolder).not.toBe(first.runFolder);
  });

  it('of a project’s programs wait for a hub that is away', async () => {
    tokens.attach(async () => {
      throw new Error('away');
    });
    await tokens.prepare(P, 1, ownId);
    expect((await enter(`token of ${P}`)).isIn()).toBe(false);
    tokens.attach(async (projectId) => `token of ${projectId}`);
    await tokens.fillMissing();
    expect((await enter(`token of ${P}`)).isIn()).toBe(true);
    // A token for something else is not believed.
    tokens.attach(async () => 'another');
    await tokens.prepare(Q, 1, ownId);
    expect(tokens.projectOf('another')).toBeUndefined();
  });
});

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import {
  accountPermissions,
  FleetErrors,
  createRoutedServiceClient,
  projectOfSubject,
  RoutedConatClient,
  RouteSource,
} from '@rookery/fleet';
import { Authenticator, type ConatIdentity, type ConnectRequest } from '@rookery/conat';
import { spaceAccount } from '@rookery/jetstream';
import { serve } from '@rookery/rpc';
import { identityNames, type ProjectRoute, projectSpaceRoot } from '@rookery/fleet/contract';
import { startTestBroker, type TestBroker } from '@rookery/conat/testing';
import { startTestJetStream, type TestJetStream } from '@rookery/jetstream/testing';
import { CoreErrors, createLogger, newId, waitFor } from '@rookery/core';
import { call, service } from '@rookery/rpc/contract';
import { z } from 'zod';

const [account, P, Q] = [newId(), newId(), newId()] as [string, string, string];
const silent = createLogger('test', 'silent');

/** Lets the account into the projects that are on this host at the moment. */
class HostDoor extends Authenticator {
  readonly here = new Set<string>();
  entries = 0;

  async authenticate({ options }: ConnectRequest): Promise<ConatIdentity | null> {
    if (options.auth_token === 'hub') {
      const all = { allow: ['>'] };
      return { name: 'hub', permissions: { publish: all, subscribe: all, inboxes: 'all' } };
    }
    const [kind, projectId = ''] = (options.auth_token ?? '').split(':');
    if (kind !== 'route' || !this.here.has(projectId)) return null;
    this.entries += 1;
    return {
      name: identityNames.account(account),
      permissions: accountPermissions(account, [{ projectId, role: 'owner' }]),
      onlySpace: projectId,
    };
  }
}

/** The books of where projects are. */
class Books extends RouteSource {
  readonly routes = new Map<string, ProjectRoute>();
  readonly proofs: (string | undefined)[] = [];
  private readonly listeners = new Map<string, Set<(generation?: number) => void>>();

  async resolve(projectId: string, proof: string | undefined): Promise<ProjectRoute> {
    this.proofs.push(proof);
    const route = this.routes.get(projectId);
    if (projectId !== P && projectId !== Q) {
      throw CoreErrors.NOT_FOUND({ what: 'project', id: projectId });
    }
    if (!route) throw FleetErrors.CONAT_ROUTE_MISSING({ subject: `project.${projectId}` });
    return { ...route, token: `route:${projectId}` };
  }

  onChange(projectId: string, listener: (generation?: number) => void): () => void {
    const all = this.listeners.get(projectId) ?? new Set();
    this.listeners.set(projectId, all.add(listener));
    return () => all.delete(listener);
  }

  tell(projectId: string): void {
    for (const each of this.listeners.get(projectId) ?? []) {
      each(this.routes.get(projectId)?.generation);
    }
  }
}

describe('subjects', () => {
  it.each([
    [`project.${P}.a`, P],
    [`project.${P}.>`, P],
    [`project.${P}.js.api.STREAM.NAMES`, P],
    [`$JS.ACK._.${P}.S.C.1.2.3.4.5`, P],
    [`$JS.FC._.${P}.S.C.x`, P],
    ['$JS.API.INFO', null],
    ['$JS.ACK.S.C.1.2.3.4.5', null],
    ['host.x.projects.start', null],
    ['projects.x', null],
    [`routes.${P}.resolve`, null],
  ])('%s is on the network of %s', (subject, projectId) => {
    expect(projectOfSubject(subject)).toBe(projectId);
  });

  it.each(['>', '*.x.y', 'project.>', 'project.*.a', 'project'])(
    '%s is on no single network',
    (subject) => {
      expect(() => projectOfSubject(subject)).toThrow(
        expect.objectContaining({ code: 'CONAT_SUBJECT_SPANS' }),
      );
    },
  );
});

describe('a client of many networks', () => {
  let control: TestBroker;
  let hosts: TestJetStream[];
  let doors: HostDoor[];
  let folder: string;
  let books: Books;
  let routed: RoutedConatClient;
  const hostIds = [newId(), newId()] as [string, string];

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'rookery-routed-'));
    control = await startTestBroker();
    doors = [new HostDoor(), new HostDoor()];
    hosts = [];
    const options = { spaceRoot: projectSpaceRoot, jetStream: { accounts: [] } };
    for (const authenticator of doors) {
      hosts.push(await startTestJetStream({ ...options, authenticator }));
    }
    books = new Books();
    routed = await router();
  });

  afterEach(async () => {
    await routed.close();
    await Promise.all([control, ...hosts].map((each) => each.close()));
    await rm(folder, { recursive: true, force: true });
  });

  const router = async (
    limits: ConstructorParameters<typeof RoutedConatClient>[0]['limits'] = {},
  ): Promise<RoutedConatClient> =>
    new RoutedConatClient({
      control: await control.connect({ identity: identityNames.account(account) }),
      routes: books,
      credentials: { token: 'shown' },
      logger: silent,
      limits: { connectTimeoutMs: 5_000, ...limits },
    });

  const file = (projectId: string) =>
    spaceAccount({ root: projectSpaceRoot, id: projectId }, join(folder, `${projectId}.sqlite`));

  /** What a move does to messaging: closed, another owner, told, open there, gone here. */
  const place = async (projectId: string, at: 0 | 1, generation: number): Promise<void> => {
    const from = doors.findIndex((door) => door.here.has(projectId));
    if (from >= 0) await hosts[from]!.jetStream.fence(projectId);
    const urls = [hosts[at]!.url];
    books.routes.set(projectId, { projectId, hostId: hostIds[at], generation, urls });
    books.tell(projectId);
    if (from >= 0) {
      await hosts[from]!.jetStream.drop(projectId);
      doors[from]!.here.delete(projectId);
      hosts[from]!.broker.updatePermissions(identityNames.account(account), (identity) =>
        identity.onlySpace === projectId ? null : identity.permissions,
      );
    }
    await hosts[at]!.jetStream.open(file(projectId));
    doors[at]!.here.add(projectId);
  };

  it('brings each project’s subjects to its host, all else to the control network', async () => {
    await place(P, 0, 1);
    await place(Q, 1, 1);
    const heard: string[] = [];
    for (const [name, broker] of [['control', control] as const, ...hosts.entries()]) {
      const hub = await broker.connect({ credentials: { token: 'hub' } });
      hub.nats.subscribe('>', {
        callback: (_, message) => void heard.push(`${name} ${message.subject}`),
      });
      await hub.nats.flush();
    }
    await routed.publish(`project.${P}.a`);
    await routed.publish(`project.${Q}.b`);
    await routed.publish('elsewhere.c');
    await waitFor('all are heard', () => heard.length >= 3, { timeoutMs: 10_000 });
    expect(heard.sort()).toEqual([`0 project.${P}.a`, `1 project.${Q}.b`, 'control elsewhere.c']);
    expect(books.proofs).toEqual(['shown', 'shown']);
    expect([...routed.connections]).toEqual([
      [P, hostIds[0]],
      [Q, hostIds[1]],
    ]);
  });

  it('never goes to another network when there is no route', async () => {
    const heard: string[] = [];
    const hub = await control.connect();
    hub.nats.subscribe('project.>', { callback: (_, { subject }) => void heard.push(subject) });
    await hub.nats.flush();
    await expect(routed.publish(`project.${P}.a`)).rejects.toMatchObject({
      code: 'CONAT_ROUTE_MISSING',
    });
    await expect(routed.request(`project.${newId()}.a`)).rejects.toMatchObject({
      code: 'NOT_FOUND',
    });
    await hub.nats.flush();
    expect(heard).toEqual([]);
    expect(routed.connections.size).toBe(0);
  });

  it('goes through the relay when the host’s own address does not answer', async () => {
    await place(P, 0, 1);
    const route = books.routes.get(P)!;
    const dead = `ws://127.0.0.1:${control.port}/nowhere`;
    books.routes.set(P, { ...route, urls: [dead], relayUrl: hosts[0]!.url });
    await routed.publish(`project.${P}.a`);
    expect(doors[0]!.entries).toBe(1);
  });

  it('makes subscriptions anew where the project has gone', async () => {
    await place(P, 0, 1);
    const heard: string[] = [];
    const client = await routed.routeSubject(`project.${P}.news`);
    client.nats.subscribe(`project.${P}.news`, {
      callback: (error, message) => void heard.push(error ? String(error) : message.string()),
    });
    await client.nats.flush();
    for (const [generation, at] of [1, 0, 1].entries()) {
      await place(P, at as 0 | 1, generation + 2);
      const hub = await hosts[at]!.connect({ credentials: { token: 'hub' } });
      await waitFor(
        'it is heard there',
        async () => {
          hub.nats.publish(`project.${P}.news`, `at ${at}`);
          await hub.nats.flush();
          return heard.at(-1) === `at ${at}`;
        },
        { timeoutMs: 20_000, everyMs: 50 },
      );
    }
    expect(new Set(heard)).toEqual(new Set(['at 0', 'at 1']));
    expect(await routed.routeSubject(`project.${P}.x`)).toBe(client);
  });

  const sums = service(
    'project.{projectId}.sums',
    { version: 1 },
    {
      ask: call(z.object({}), z.object({ at: z.int() }), { timeoutMs: 15_000, idempotent: true }),
      change: call(z.object({}), z.object({ at: z.int() }), { timeoutMs: 15_000 }),
    },
  );

  it('asks again what may be asked twice, and says of the rest that it is not known', async () => {
    await place(P, 0, 1);
    const started = [Promise.withResolvers<void>(), Promise.withResolvers<void>()] as const;
    const never = new Promise<never>(() => undefined);
    const first = await hosts[0]!.connect({ credentials: { token: 'hub' } });
    await serve(
      first,
      sums,
      {
        ask: async () => (started[0].resolve(), never),
        change: async () => (started[1].resolve(), never),
      },
      { params: { projectId: P }, logger: silent },
    );
    const second = await hosts[1]!.connect({ credentials: { token: 'hub' } });
    const there = async () => ({ at: 1 });
    await serve(second, sums, { ask: there, change: there }, { params: { projectId: P } });

    const client = createRoutedServiceClient(routed, sums, { projectId: P });
    const [asked, changed] = [client.ask({}), client.change({})];
    const unknown = expect(changed).rejects.toMatchObject({
      code: 'CONAT_ROUTE_CHANGED',
      retryable: true,
    });
    await Promise.all(started.map(({ promise }) => promise));
    await place(P, 1, 2);
    await unknown;
    expect(await asked).toEqual({ at: 1 });
    expect(await client.change({})).toEqual({ at: 1 });
  });

  it('keeps JetStream and key-value watches going', async () => {
    await place(P, 0, 1);
    const kv = await routed.kv(P, 'b', { history: 3 });
    await kv.put('k', 'one');
    const watch = await kv.watch();
    const seen: string[] = [];
    void (async () => {
      for await (const entry of watch)
        seen.push(`${entry.key} ${entry.string()} ${entry.revision}`);
    })();
    await waitFor('the first is seen', () => seen.length === 1, { timeoutMs: 10_000 });
    for (const [n, at] of [1, 0].entries()) {
      await place(P, at as 0 | 1, n + 2);
      const revision = await waitFor(
        'it is put there',
        () => kv.put('k', `at ${at}`).catch(() => undefined),
        { timeoutMs: 20_000, everyMs: 50 },
      );
      const line = `k at ${at} ${revision}`;
      await waitFor('it is seen', () => seen.includes(line), { timeoutMs: 30_000 });
    }
    const revisions = seen.map((line) => Number(line.split(' ').at(-1)));
    expect(revisions).toEqual([...new Set(revisions)].sort((a, b) => a - b));
    expect((await kv.get('k'))?.string()).toBe('at 0');
    watch.stop();
  }, 60_000);

  it('closes what nobody uses, and takes no more projects than it may', async () => {
    await place(P, 0, 1);
    await place(Q, 0, 1);
    const small = await router({ projectsMax: 1, idleMs: 200 });
    try {
      const client = await small.routeSubject(`project.${P}.a`);
      const subscription = client.nats.subscribe(`project.${P}.a`);
      await expect(small.publish(`project.${Q}.a`)).rejects.toMatchObject({
        code: 'CONAT_ROUTES_BUSY',
      });
      subscription.unsubscribe();
      await small.publish(`project.${Q}.a`);
      expect([...small.connections.keys()]).toEqual([Q]);
      await waitFor('it is closed', () => small.connections.size === 0, { timeoutMs: 10_000 });
      await waitFor('it is gone', () => hosts[0]!.broker.connectionCount === 0, {
        timeoutMs: 10_000,
      });
    } finally {
      await small.close();
    }
  });

  it('ends when the project is none of ours any more', async () => {
    await place(P, 0, 1);
    const client = await routed.routeSubject(`project.${P}.a`);
    books.resolve = async () => {
      throw CoreErrors.NOT_FOUND({ what: 'project', id: P });
    };
    doors[0]!.here.delete(P);
    hosts[0]!.broker.disconnect(identityNames.account(account));
    await waitFor('it has ended', () => client.status === 'closed', { timeoutMs: 10_000 });
    expect(routed.connections.size).toBe(0);
  });
});

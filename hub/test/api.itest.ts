import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { api, apiPrefix } from '@rookery/api';
import { DataSource } from 'typeorm';
import { FakeHost } from './support/fake-host.js';
import { startPostgres, type TestPostgres } from './support/postgres.js';
import { TestHub, type Operation, type Project } from './support/test-hub.js';

let postgres: TestPostgres;
let hub: TestHub;
let host: FakeHost;
let other: { token: string; accountId: string };
const noId = '00000000-0000-4000-8000-000000000000';

beforeAll(async () => {
  postgres = await startPostgres();
  hub = await TestHub.start(postgres.url);
  host = await FakeHost.join({ name: 'h1', hubUrl: hub.url, joinToken: await hub.joinToken() });
  other = await hub.createAccount('other@example.org');
});
afterAll(async () => {
  await host?.disconnect();
  await hub?.close();
  await postgres?.close();
});

describe('who may ask', () => {
  it('answers nobody without a key, but its health', async () => {
    const open = Object.entries(api).filter(([, route]) => !route.authenticated);
    expect(open.map(([name]) => name)).toEqual(['getHealth']);
    expect(await hub.ok('GET', '/health', { token: null })).toMatchObject({ status: 'ok' });
    for (const route of Object.values(api)) {
      if (!route.authenticated) continue;
      const path = route.path.replace(/\{\w+\}/g, noId);
      const body = ['GET', 'DELETE'].includes(route.method) ? undefined : {};
      for (const token of [null, 'rookery_wrong', `rookery_${'A'.repeat(43)}`]) {
        expect(await hub.problem(route.method, path, { token, body })).toBe('UNAUTHENTICATED');
      }
    }
  });

  it('shows its broker’s metrics to this machine, not to whoever comes through a proxy', async () => {
    const own = await fetch(`${hub.url}/metrics`);
    expect(own.headers.get('content-type')).toContain('text/plain');
    expect(await own.text()).toMatch(/^conat_connections\{transport="websocket"\} [1-9]/m);
    const headers = { 'x-forwarded-for': '203.0.113.9' };
    const proxied = await fetch(`${hub.url}/metrics`, { headers });
    expect(proxied.status).toBe(403);
    expect(await proxied.json()).toMatchObject({ code: 'METRICS_FORBIDDEN' });
  });

  it('hides a project from others, lets a viewer read and an editor change', async () => {
    const { id } = await hub.createProject();
    const { token, accountId } = other;
    const tries = () =>
      Promise.all([
        hub.problem('GET', `/projects/${id}`, { token }),
        hub.problem('POST', `/projects/${id}/start`, { token, body: {} }),
        hub.problem('DELETE', `/projects/${id}`, { token }),
        hub.problem('GET', `/projects/${id}/snapshots`, { token }),
        hub.problem('GET', `/projects/${id}/backups`, { token }),
        hub.problem('PUT', `/projects/${id}/collaborators/${accountId}`, {
          token,
          body: { role: 'owner' },
        }),
      ]);
    expect(new Set(await tries())).toEqual(new Set(['PROJECT_UNKNOWN']));
    const put = (role: string) =>
      hub.ok('PUT', `/projects/${id}/collaborators/${accountId}`, { body: { role } });
    await put('viewer');
    expect(await hub.ok('GET', `/projects/${id}`, { token })).toMatchObject({ role: 'viewer' });
    expect(await hub.problem('POST', `/projects/${id}/start`, { token, body: {} })).toBe(
      'FORBIDDEN',
    );
    await put('editor');
    await hub.succeeded(
      await hub.ok<{ operation: Operation }>('POST', `/projects/${id}/start`, { token, body: {} }),
    );
    expect(await hub.problem('DELETE', `/projects/${id}?force=true`, { token })).toBe('FORBIDDEN');
    await hub.ok('DELETE', `/projects/${id}/collaborators/${accountId}`);
    expect(await hub.problem('GET', `/projects/${id}`, { token })).toBe('PROJECT_UNKNOWN');
    expect(
      await hub.problem('DELETE', `/projects/${id}/collaborators/${hub.admin.accountId}`),
    ).toBe('LAST_OWNER');
  });

  it('keeps hosts, accounts and the audit log to administrators', async () => {
    const { token } = other;
    const paths = ['/hosts', `/hosts/${host.hostId}`, '/audit'];
    for (const path of paths) expect(await hub.problem('GET', path, { token })).toBe('FORBIDDEN');
    const body = { email: 'x@example.org', name: 'x' };
    expect(await hub.problem('POST', '/accounts', { token, body })).toBe('FORBIDDEN');
    expect(await hub.problem('POST', '/hosts/join-tokens', { token, body: {} })).toBe('FORBIDDEN');
  });

  it('forgets a revoked key and refuses an account twice', async () => {
    const made = await hub.ok<{ key: { id: string }; token: string }>('POST', '/api-keys', {
      body: { name: 'short' },
    });
    expect(await hub.ok('GET', '/account', { token: made.token })).toMatchObject({ admin: true });
    await hub.ok('DELETE', `/api-keys/${made.key.id}`);
    expect(await hub.problem('GET', '/account', { token: made.token })).toBe('UNAUTHENTICATED');
    const body = { email: 'OTHER@example.org', name: 'again' };
    expect(await hub.problem('POST', '/accounts', { body })).toBe('ACCOUNT_EXISTS');
  });
});

describe('signing in with a browser', () => {
  const visit = (path: string, init: RequestInit = {}) =>
    fetch(`${hub.url}${path}`, { redirect: 'manual', ...init });

  it('turns a ticket into a session once, and stays on this site', async () => {
    const ticket = (next: string) =>
      hub.ok<{ url: string }>('POST', '/login-tickets', { body: { next } });
    const { url } = await ticket('/somewhere?a=1');
    const response = await fetch(url, { redirect: 'manual' });
    expect(response.status).toBe(303);
    expect(response.headers.get('location')).toBe('/somewhere?a=1');
    const setCookie = response.headers.get('set-cookie')!;
    expect(setCookie).toMatch(/^rookery_session=session_.*Path=\/;.*HttpOnly; SameSite=Lax/);
    expect((await fetch(url, { redirect: 'manual' })).status).toBe(401);
    expect(await hub.problem('POST', '/login-tickets', { body: { next: '//evil.org' } })).toBe(
      'INVALID_INPUT',
    );
    const cookie = setCookie.split(';')[0]!;
    const home = await visit('/', { headers: { cookie } });
    expect(home.status).toBe(200);
    expect(await home.text()).toContain('admin@localhost');
    await opensNothingElse(cookie);
    await refusesForeignChanges(cookie);
  });

  /** Any page that a browser shows could send it along. */
  async function opensNothingElse(cookie: string): Promise<void> {
    const headers = { cookie, origin: hub.url, 'sec-fetch-site': 'same-origin' };
    const own = { token: null, headers };
    expect(await hub.problem('GET', '/account', own)).toBe('UNAUTHENTICATED');
    const body = { name: 'k' };
    expect(await hub.problem('POST', '/api-keys', { ...own, body })).toBe('UNAUTHENTICATED');
    expect(await hub.problem('POST', '/conat-tokens', { ...own, body: {} })).toBe(
      'UNAUTHENTICATED',
    );
  }

  async function refusesForeignChanges(cookie: string): Promise<void> {
    const leave = (headers: Record<string, string>) =>
      visit('/logout', { method: 'POST', headers: { cookie, ...headers } });
    const foreign: Record<string, string>[] = [
      {},
      { origin: 'http://evil.org' },
      { origin: 'null', 'sec-fetch-site': 'same-origin' },
      { origin: hub.url, 'sec-fetch-site': 'same-site' },
      { 'sec-fetch-site': 'cross-site' },
    ];
    for (const headers of foreign) {
      const answer = await leave(headers);
      expect(await answer.json()).toMatchObject({ code: 'CSRF_REFUSED' });
    }
    expect((await visit('/', { headers: { cookie } })).status).toBe(200);
    const own = await leave({ origin: hub.url, 'sec-fetch-site': 'same-origin' });
    expect(own.headers.get('location')).toBe('/login');
    expect((await visit('/', { headers: { cookie } })).status).toBe(303);
  }

  it('believes no cookie beside which a neighbour has put another', async () => {
    const { url } = await hub.ok<{ url: string }>('POST', '/login-tickets', {
      body: { next: '/' },
    });
    const response = await fetch(url, { redirect: 'manual' });
    const [cookie = ''] = response.headers.get('set-cookie')!.split(';');
    const home = (header: string) => visit('/', { headers: { cookie: header } });
    expect((await home(`theme=dark; ${cookie}`)).status).toBe(200);
    for (const header of [`${cookie}; rookery_session=x`, `rookery_session=x; ${cookie}`]) {
      expect((await home(header)).status).toBe(303);
    }
  });

  it('keeps the cookie to HTTPS and this host behind a TLS terminator that is trusted', async () => {
    const behind = await TestHub.start(postgres.url, { ROOKERY_TRUSTED_PROXIES: '127.0.0.0/8' });
    const forwarded = {
      'x-forwarded-proto': 'https',
      'x-forwarded-for': '198.51.100.9',
      'x-forwarded-host': 'rookery.example',
    };
    const signIn = (url: string, headers: Record<string, string>) =>
      fetch(`${url}/login`, {
        method: 'POST',
        redirect: 'manual' as const,
        headers,
        body: new URLSearchParams({ token: hub.admin.token }),
      }).then((answer) => answer.headers.get('set-cookie'));
    try {
      const origin = 'https://rookery.example';
      expect(await signIn(behind.url, { ...forwarded, origin })).toMatch(
        /^__Host-rookery_session=session_.*; Path=\/;.* HttpOnly; Secure; SameSite=Lax/,
      );
      expect(await signIn(behind.url, { origin: behind.url })).toMatch(/^rookery_session=/);
      // This hub trusts nobody: it is the one that was asked, over HTTP.
      expect(await signIn(hub.url, { ...forwarded, origin })).toBeNull();
      expect(await signIn(hub.url, { ...forwarded, origin: hub.url })).toMatch(/^rookery_session=/);
    } finally {
      await behind.close();
    }
  });

  it('takes a pasted token, and leads away only to its own paths', async () => {
    const post = (token: string, next: string) =>
      visit('/login', {
        method: 'POST',
        headers: { origin: hub.url, 'content-type': 'application/x-www-form-urlencoded' },
        body: new URLSearchParams({ token, next }).toString(),
      });
    expect((await post('nonsense', '/')).status).toBe(401);
    for (const next of ['//evil.org', '/\\evil.org', 'https://evil.org', '/%0d\n']) {
      expect((await post(hub.admin.token, next)).headers.get('location')).toBe('/');
    }
    expect((await visit('/')).headers.get('location')).toBe('/login');
    const page = await (await visit('/login?next="><script>')).text();
    expect(page).not.toContain('<script>');
  });

  it('shows a browser pages, and programs problems', async () => {
    const accept = 'text/html,application/xhtml+xml,*/*;q=0.8';
    const page = await visit('/nothing/<here>', { headers: { accept } });
    expect(page.status).toBe(404);
    expect(page.headers.get('content-type')).toMatch('text/html');
    expect(page.headers.get('content-security-policy')).toMatch("default-src 'none'");
    const text = await page.text();
    expect(text).toContain('ROUTE_UNKNOWN');
    expect(text).not.toContain('<here>');
    const type = (path: string, headers: Record<string, string>) =>
      visit(path, { headers }).then((answer) => answer.headers.get('content-type'));
    expect(await type('/nothing', {})).toBe('application/problem+json');
    expect(await type(`${apiPrefix}/nothing`, { accept })).toBe('application/problem+json');
  });
});

const cursorOf = (...parts: string[]): string =>
  Buffer.from(JSON.stringify(parts)).toString('base64url');

describe('what makes no sense', () => {
  it.each([
    ['a project id', 'GET', '/projects/none', undefined],
    ['an empty name', 'POST', '/projects', { name: '  ' }],
    ['control characters in a name', 'POST', '/projects', { name: 'a\u0000b' }],
    ['a name of 101 characters', 'POST', '/projects', { name: 'n'.repeat(101) }],
    ['no name', 'POST', '/projects', {}],
    ['a quota of nothing', 'POST', '/projects', { name: 'n', quota: { diskBytes: 0 } }],
    ['a negative quota', 'POST', '/projects', { name: 'n', quota: { memoryBytes: -1 } }],
    ['half a byte', 'POST', '/projects', { name: 'n', quota: { diskBytes: 1e9 + 0.5 } }],
    ['an image of 513 characters', 'POST', '/projects', { name: 'n', image: 'i'.repeat(513) }],
    ['a body that is a list', 'POST', '/projects', []],
    ['a cursor of somebody else', 'GET', '/projects?cursor=abc', undefined],
    ['a limit of 501', 'GET', '/projects?limit=501', undefined],
    ['a limit of 0', 'GET', '/projects?limit=0', undefined],
    ['a percent sign alone', 'GET', '/projects/%', undefined],
    ['port 70000', 'PATCH', `/projects/${noId}`, { publicPorts: [70_000] }],
    ['a snapshot named ..', 'POST', `/projects/${noId}/snapshots`, { name: '..' }],
    ['a reserved snapshot name', 'POST', `/projects/${noId}/snapshots`, { name: 'move-1' }],
    ['a path with ..', 'POST', `/projects/${noId}/snapshots/a/restore`, { path: 'a/../../b' }],
    ['a backup id with a slash', 'POST', `/projects/${noId}/backups/a%2fb/restore`, {}],
    ['a role of god', 'PUT', `/projects/${noId}/collaborators/${noId}`, { role: 'god' }],
  ])('is refused: %s', async (_what, method, path, body) => {
    expect(await hub.problem(method, path, { body })).toBe('INVALID_INPUT');
  });

  it.each([
    ['a NUL in a name', '/projects?name=a%00b'],
    ['a cursor without a time', `/projects?cursor=${cursorOf('1', noId)}`],
    [
      'a cursor of a time that Postgres does not know',
      `/projects?cursor=${cursorOf('5 AD', noId)}`,
    ],
    ['a cursor with a NUL', `/projects?cursor=${cursorOf('2026-01-01', '\0')}`],
    ['a parameter that there is not', '/projects?nmae=x'],
  ])('is refused: %s', async (_what, path) => {
    expect(await hub.problem('GET', path)).toBe('INVALID_INPUT');
  });

  it('is refused: a method that a known path does not have, naming those that it has', async () => {
    const answer = await hub.call<{ code: string }>('PUT', `/projects/${noId}`, { body: {} });
    expect([answer.status, answer.body.code]).toEqual([405, 'METHOD_NOT_ALLOWED']);
    expect(answer.headers.get('allow')?.split(', ').sort()).toEqual(['DELETE', 'GET', 'PATCH']);
  });

  it('is refused in one form, whether the API or the way to a project says so', async () => {
    const token = { authorization: `Bearer ${hub.admin.token}` };
    const problemAt = async (path: string) =>
      (await (await fetch(`${hub.url}${path}`, { headers: token })).json()) as Record<
        string,
        string
      >;
    const problems = [
      await problemAt(`${apiPrefix}/projects/${noId}`),
      await problemAt(`/${noId}/port/80/`),
    ];
    expect(new Set(problems.map(({ code }) => code)).size).toBe(2);
    for (const { code = '', type, title, status, detail } of problems) {
      expect(type).toBe(`urn:rookery:error:${code.toLowerCase()}`);
      expect(title).toBe(code.toLowerCase().replaceAll('_', ' '));
      expect([typeof status, typeof detail]).toEqual(['number', 'string']);
    }
  });

  it('is refused: JSON that is none, a path that is none', async () => {
    const response = await fetch(`${hub.url}${apiPrefix}/projects`, {
      method: 'POST',
      headers: { authorization: `Bearer ${hub.admin.token}` },
      body: '{"name":',
    });
    expect(await response.json()).toMatchObject({ code: 'INVALID_JSON', status: 400 });
    expect(await hub.problem('GET', '/nothing')).toBe('ROUTE_UNKNOWN');
    expect(await hub.problem('GET', `/projects/${noId}`)).toBe('PROJECT_UNKNOWN');
    expect(await hub.problem('GET', `/operations/${noId}`)).toBe('OPERATION_UNKNOWN');
  });
});

describe('an idempotency key', () => {
  const key = { 'idempotency-key': 'k1' };
  const create = (name: string, headers: Record<string, string> = key, token?: string) =>
    hub.call<{ project: Project; code?: string }>('POST', '/projects', {
      body: { name },
      headers,
      ...(token !== undefined && { token }),
    });

  it('gives the first answer again, and refuses another request', async () => {
    const [first, again] = await Promise.all([create('once'), create('once')]);
    expect(again).toMatchObject({ status: 202, body: { project: { id: first.body.project.id } } });
    expect((await create('twice')).body.code).toBe('IDEMPOTENCY_CONFLICT');
    const foreign = await create('twice', key, other.token);
    expect(foreign.status).toBe(202);
    const { items } = await hub.ok<{ items: Project[] }>('GET', '/projects?name=once');
    expect(items).toHaveLength(1);
  });

  it('is taken over by one alone of those that find its request abandoned', async () => {
    const headers = { 'idempotency-key': 'k3' };
    const ask = () =>
      hub.call<{ token: string }>('POST', '/hosts/join-tokens', { body: {}, headers });
    await ask();
    // As a process leaves it that died before it answered.
    await hub.app.get(DataSource).query(
      `UPDATE idempotency_records SET status = NULL, response = NULL,
         created_at = now() - interval '2 min' WHERE route = 'createJoinToken'`,
    );
    const answers = await Promise.all(Array.from({ length: 4 }, ask));
    expect(answers.map(({ status }) => status)).toEqual([201, 201, 201, 201]);
    expect(new Set(answers.map(({ body }) => body.token)).size).toBe(1);
  });

  it('does not keep a refusal', async () => {
    const headers = { 'idempotency-key': 'k2' };
    const start = () => hub.problem('POST', `/projects/${noId}/start`, { body: {}, headers });
    expect([await start(), await start()]).toEqual(['PROJECT_UNKNOWN', 'PROJECT_UNKNOWN']);
    expect((await create('x', { 'idempotency-key': 'a b' })).body.code).toBe('INVALID_INPUT');
  });
});

describe('lists', () => {
  it('are paged without gaps or repeats, also while they grow', async () => {
    const { token } = await hub.createAccount('lists@example.org');
    const made: string[] = [];
    const make = async () => {
      const { project } = await hub.ok<{ project: Project }>('POST', '/projects', {
        token,
        body: { name: 'listed' },
      });
      made.push(project.id);
    };
    for (let n = 0; n < 5; n += 1) await make();
    const seen: string[] = [];
    let cursor: string | null = '';
    while (cursor !== null) {
      const after: string = cursor === '' ? '' : `&cursor=${cursor}`;
      const page: { items: Project[]; nextCursor: string | null } = await hub.ok(
        'GET',
        `/projects?limit=2${after}`,
        { token },
      );
      seen.push(...page.items.map((item) => item.id));
      if (seen.length === 2) await make();
      cursor = page.nextCursor;
    }
    expect(seen).toEqual(made);
  });
});

describe('the OpenAPI document', () => {
  interface Document {
    openapi: string;
    paths: Record<string, Record<string, { operationId: string; parameters: object[] }>>;
    components: { schemas: Record<string, unknown> };
  }

  it('covers every route, and every reference leads somewhere', async () => {
    const response = await fetch(`${hub.url}/api/openapi.json`);
    const document = (await response.json()) as Document;
    expect(document.openapi).toBe('3.1.0');
    const found = Object.entries(document.paths).flatMap(([path, methods]) =>
      Object.entries(methods).map(([method, { operationId }]) => [
        operationId,
        `${method.toUpperCase()} ${path}`,
      ]),
    );
    expect(Object.fromEntries(found)).toEqual(
      Object.fromEntries(
        Object.entries(api).map(([name, { method, path }]) => [
          name,
          `${method} ${apiPrefix}${path}`,
        ]),
      ),
    );
    const text = JSON.stringify(document);
    expect(text).not.toContain('$defs');
    for (const [, name] of text.matchAll(/"#\/components\/schemas\/([^"]+)"/g)) {
      expect(document.components.schemas).toHaveProperty(name!);
    }
    for (const [path, methods] of Object.entries(document.paths)) {
      const inPath = [...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => name);
      for (const { parameters } of Object.values(methods)) {
        const declared = (parameters as { name: string; in: string }[])
          .filter((each) => each.in === 'path')
          .map((each) => each.name);
        expect(declared.sort()).toEqual(inPath.sort());
      }
    }
    expect((await fetch(`${hub.url}/api/docs`)).status).toBe(200);
  });
});

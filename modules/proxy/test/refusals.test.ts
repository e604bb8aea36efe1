import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { createServer } from 'node:http';
import { newId } from '@rookery/core';
import { AccessTokenMinter } from '@rookery/core';
import { generateKeyPairSync } from 'node:crypto';
import { WebSocket } from 'ws';
import { closeServer, listen, Rig, send } from './rig.js';

const browser = { accept: 'text/html,application/xhtml+xml', 'sec-fetch-mode': 'navigate' };

async function freePort(): Promise<number> {
  const server = createServer();
  const port = await listen(server);
  await closeServer(server);
  return port;
}

function refusedUpgrade(url: string, headers: Record<string, string>): Promise<number> {
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(url, { headers });
    socket.once('unexpected-response', (_req, res) => {
      res.resume();
      resolve(res.statusCode ?? 0);
    });
    socket.once('open', () => reject(new Error('it opened')));
    socket.on('error', reject);
  });
}

describe('refusals', () => {
  let rig: Rig;
  let deadPort: number;
  beforeAll(async () => {
    rig = await new Rig().start();
    deadPort = await freePort();
  });
  afterAll(() => rig.stop());

  const cases = () =>
    [
      ['unknown project', `/${newId()}/port/80/`, 'owner', 404, 'PROXY_PROJECT_UNKNOWN'],
      ['a foreign user', rig.path(), 'stranger', 403, 'PROXY_PROJECT_FORBIDDEN'],
      ['not signed in', rig.path(), 'nobody', 401, 'PROXY_SIGN_IN_REQUIRED'],
      ['dead port', rig.path('', 'port', deadPort), 'owner', 502, 'PROXY_PORT_REFUSED'],
      ['port 0', rig.path('', 'port', 0), 'owner', 400, 'PROXY_PORT_INVALID'],
      ['port 70000', rig.path('', 'port', 70_000), 'owner', 400, 'PROXY_PORT_INVALID'],
      ['..', rig.path('../x'), 'owner', 400, 'PROXY_PATH_INVALID'],
      ['%2f', `/${rig.projectId}%2fport/80/`, 'owner', 400, 'PROXY_PATH_INVALID'],
      ['no project', '/port/80/', 'owner', 400, 'PROXY_PATH_INVALID'],
    ] as const;

  it('answers programs with problem+json, browsers with a page, upgrades with a status', async () => {
    for (const [what, path, as, status, code] of cases()) {
      const program = await send(rig.hubPort, path, { as });
      expect([what, program.status, program.json().code]).toEqual([what, status, code]);
      expect(program.headers['content-type']).toBe('application/problem+json');
      const page = await send(rig.hubPort, path, { as, headers: browser });
      expect([what, page.status]).toEqual([what, status]);
      expect(page.headers['content-type']).toBe('text/html; charset=utf-8');
      expect(page.text).toContain(code);
      expect(page.text).not.toMatch(/<script|<link|<img|https?:/);
      const url = `ws://127.0.0.1:${rig.hubPort}${path}`;
      const upgrade = await refusedUpgrade(url, { authorization: `Bearer ${as}` });
      // A WebSocket client writes its address out before it sends it: `..` is gone by then.
      if (what !== '..') expect([what, upgrade]).toEqual([what, status]);
    }
  });

  it('escapes what it shows', async () => {
    const page = await send(rig.hubPort, `/${rig.projectId}/port/<script>alert(1)<%2fscript>/`, {
      headers: browser,
    });
    expect(page.status).toBe(400);
    expect(page.text).not.toContain('<script');
    const port = await send(rig.hubPort, `/${rig.projectId}/port/<b>/`, { headers: browser });
    expect(port.text).toContain('&lt;b&gt;');
  });

  it('keeps the connection usable after an error without a body', async () => {
    const first = await send(rig.hubPort, rig.path('', 'port', deadPort));
    expect(first.headers.connection).not.toBe('close');
  });

  it('opens a public port to anybody, and that port alone', async () => {
    rig.pointHub(0, [rig.servicePort]);
    expect((await send(rig.hubPort, rig.path(), { as: 'nobody' })).status).toBe(200);
    expect((await send(rig.hubPort, rig.path(), { as: 'stranger' })).status).toBe(200);
    const other = await send(rig.hubPort, rig.path('', 'port', deadPort), { as: 'nobody' });
    expect(other.status).toBe(401);
    rig.pointHub(0);
  });

  it('says that a stopped project is stopped', async () => {
    rig.host().routes.set(rig.projectId, { state: 'stopped' });
    const answer = await send(rig.hubPort, rig.path());
    expect([answer.status, answer.json().code]).toEqual([503, 'PROXY_PROJECT_NOT_RUNNING']);
    const page = await send(rig.hubPort, rig.path(), { headers: browser });
    expect(page.text).toMatch(/not running. Start it/);
    rig.place(0);
  });

  it('says that a host does not answer, and that a project is on none', async () => {
    const route = rig.resolver.table.get(rig.projectId);
    if (!route) throw new Error('no route');
    rig.resolver.table.set(rig.projectId, { ...route, hostUrl: `http://127.0.0.1:${deadPort}` });
    const away = await send(rig.hubPort, rig.path());
    expect([away.status, away.json().code]).toEqual([502, 'PROXY_HOST_UNREACHABLE']);
    const { hostId: _id, hostUrl: _url, ...unplaced } = route;
    rig.resolver.table.set(rig.projectId, { ...unplaced, state: 'archived' });
    const none = await send(rig.hubPort, rig.path());
    expect([none.status, none.json().code]).toEqual([503, 'PROXY_PROJECT_NOT_PLACED']);
    rig.pointHub(0);
  });

  it('refuses a WebSocket that a foreign page opens with the cookie', async () => {
    const url = `ws://127.0.0.1:${rig.hubPort}${rig.path()}`;
    const cookie = 'rookery_session=owner';
    expect(await refusedUpgrade(url, { cookie, origin: 'https://evil.example' })).toBe(403);
    const socket = new WebSocket(url, {
      headers: { cookie, origin: `http://127.0.0.1:${rig.hubPort}` },
    });
    await new Promise((resolve, reject) => socket.once('open', resolve).once('error', reject));
    socket.terminate();
  });

  describe('at the host', () => {
    const grant = () => ({
      aud: `host:${rig.host().hostId}` as const,
      sub: 'account:x',
      project: rig.projectId,
      role: 'owner' as const,
    });
    const ask = async (token: string | undefined) => {
      const headers: Record<string, string> = token === undefined ? {} : { 'rookery-token': token };
      const answer = await send(rig.host().port, rig.path(), { as: 'nobody', headers });
      return [answer.status, answer.status === 200 ? 'ok' : answer.json().code];
    };

    it('answers nobody without a token of the hub for this host, project and port', async () => {
      const { minter } = rig;
      const { privateKey } = generateKeyPairSync('ed25519');
      const forged = new AccessTokenMinter(privateKey, 'k1');
      const refused = [401, 'PROXY_TOKEN_REFUSED'];
      expect(await ask(undefined)).toEqual([401, 'PROXY_TOKEN_REQUIRED']);
      expect(await ask('nonsense')).toEqual(refused);
      expect(await ask(await forged.mint(grant()))).toEqual(refused);
      expect(await ask(await minter.mint({ ...grant(), aud: `host:${newId()}` }))).toEqual(refused);
      expect(await ask(await minter.mint({ ...grant(), project: newId() }))).toEqual(refused);
      const anonymous = { ...grant(), sub: 'anonymous', role: 'anonymous' as const };
      expect(await ask(await minter.mint({ ...anonymous, port: deadPort }))).toEqual(refused);
      expect(await ask(await minter.mint(anonymous))).toEqual(refused);
      expect(await ask(await minter.mint({ ...anonymous, port: rig.servicePort }))).toEqual([
        200,
        'ok',
      ]);
      expect(await ask(await minter.mint({ ...grant(), ttlSeconds: -60 }))).toEqual(refused);
      const good = await minter.mint(grant());
      expect(await ask(good)).toEqual([200, 'ok']);
      expect(await ask(good)).toEqual([200, 'ok']);
      expect(await refusedUpgrade(`ws://127.0.0.1:${rig.host().port}${rig.path()}`, {})).toBe(401);
    });

    it('shows browsers no page, as all projects of the host would share its origin', async () => {
      const token = await rig.minter.mint(grant());
      const path = rig.path(`a?x=1&rookery_token=${token}`);
      const { port } = rig.host();
      const page = await send(port, path, { as: 'nobody', headers: browser });
      expect(page.status).toBe(403);
      expect(page.headers['set-cookie']).toBeUndefined();
      expect(page.text).toContain('PROXY_ORIGIN_REQUIRED');
      const cookie = `rookery_token=${token}`;
      const tossed = await send(port, rig.path('a'), { as: 'nobody', headers: { cookie } });
      expect(tossed.json().code).toBe('PROXY_TOKEN_REQUIRED');
      const program = await send(port, path, { as: 'nobody' });
      expect([program.status, program.headers['content-security-policy']]).toEqual([
        200,
        'sandbox',
      ]);
    });

    it('turns a token in the address into a cookie where the operator shares the origin', async () => {
      const shared = await rig.addHost('shared');
      shared.routes.set(rig.projectId, { state: 'running', address: '127.0.0.1' });
      const token = await rig.minter.mint({ ...grant(), aud: `host:${shared.hostId}` });
      const path = rig.path(`a?x=1&rookery_token=${token}`);
      const opened = await send(shared.port, path, { as: 'nobody', headers: browser });
      expect(opened.status).toBe(303);
      expect(opened.headers.location).toBe(rig.path('a?x=1'));
      const [cookie = ''] = opened.headers['set-cookie'] ?? [];
      expect(cookie).toMatch(
        new RegExp(`^rookery_token=${token}; Path=/${rig.projectId}/; HttpOnly`),
      );
      const headers = { cookie: cookie.split(';')[0] ?? '' };
      const next = await send(shared.port, rig.path('a'), { as: 'nobody', headers });
      expect(next.status).toBe(200);
      expect(next.text).not.toContain(token);
    });

    it('knows nothing but projects', async () => {
      expect((await send(rig.host().port, '/', { as: 'nobody' })).status).toBe(400);
    });

    it('says that a project is not here', async () => {
      rig.host().routes.delete(rig.projectId);
      const token = await rig.minter.mint(grant());
      expect(await ask(token)).toEqual([421, 'PROXY_NOT_HERE']);
      rig.place(0);
    });
  });
});

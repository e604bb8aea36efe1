import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { newId } from '@rookery/core';
import { OriginSessions, ProjectOrigins, type OriginSession } from '@rookery/proxy';
import { WebSocket } from 'ws';
import { Rig, send } from './rig.js';

const id = '0f4f4a54-7d5c-4c1e-9a55-2b9f3f0f8a11';
const names = new ProjectOrigins('https://*.apps.example.com', 'https://hub.apps.example.com');

describe('names of projects’ origins', () => {
  it.each([
    [`8080--${id}.apps.example.com`, { kind: 'project', projectId: id, port: 8080 }],
    [`8080--${id.toUpperCase()}.Apps.Example.com:8443`, { kind: 'project', projectId: id }],
    ['hub.apps.example.com', { kind: 'other' }],
    ['apps.example.com', { kind: 'other' }],
    [`8080--${id}.apps.example.org`, { kind: 'other' }],
    [`8080--${id}.apps.example.com.evil.org`, { kind: 'other' }],
    [`8080--${id}.xapps.example.com`, { kind: 'other' }],
    [undefined, { kind: 'other' }],
    ...[
      `0--${id}`,
      `70000--${id}`,
      `080--${id}`,
      `+80--${id}`,
      `8080-${id}`,
      `8080--${id}x`,
      `8080--${id.replaceAll('-', '')}`,
      `a.8080--${id}`,
      `${id}`,
      'x',
      '',
    ].map((name) => [`${name}.apps.example.com`, { kind: 'foreign' }] as const),
    // Another origin to a browser.
    [`8080--${id}.apps.example.com.`, { kind: 'foreign' }],
  ])('%s', (host, expected) => {
    expect(names.nameOf(host)).toMatchObject(expected);
  });

  it('lead back to the project from an Origin header, exactly', () => {
    const own = names.originOf(id, 8080);
    expect(own).toBe(`https://8080--${id}.apps.example.com`);
    expect(names.isOriginOf(own, id)).toBe(true);
    expect(names.isOriginOf(names.originOf(id, 1), id)).toBe(true);
    for (const origin of [`${own}:444`, own.replace('https', 'http'), `${own}/`, 'null', '']) {
      expect([origin, names.isOriginOf(origin, id)]).toEqual([origin, false]);
    }
    expect(names.isOriginOf(own, newId())).toBe(false);
  });

  it('want a domain of which all names are ours', () => {
    for (const url of ['https://apps.example.com', 'ftp://*.x', 'https://*', 'https://*.a/b']) {
      expect(() => new ProjectOrigins(url, 'https://hub')).toThrow(/is not like/);
    }
    const local = new ProjectOrigins('http://*.localhost:80', 'http://127.0.0.1');
    expect(local.originOf(id, 1)).toBe(`http://1--${id}.localhost`);
  });
});

/** One code, for whoever has the state. */
class OneCode extends OriginSessions {
  asked: Parameters<OriginSessions['signInUrl']>[0] | undefined;

  signInUrl(asked: Parameters<OriginSessions['signInUrl']>[0]): string {
    this.asked = asked;
    return 'https://hub.example/open';
  }

  async redeem(shown: { code: string; state: string }): Promise<OriginSession | undefined> {
    const { asked } = this;
    if (shown.code !== 'good' || shown.state !== asked?.state) return undefined;
    this.asked = undefined;
    return { secret: 'owner', next: asked.next, maxAgeSeconds: 60 };
  }
}

describe('a project’s own origin', () => {
  const sessions = new OneCode();
  const apps = new ProjectOrigins('http://*.localhost', 'http://127.0.0.1');
  const visit = {
    accept: 'text/html',
    'sec-fetch-mode': 'navigate',
    'sec-fetch-dest': 'document',
    'sec-fetch-site': 'none',
  };
  let rig: Rig;
  let host: string;
  beforeAll(async () => {
    rig = await new Rig({}, { origins: { names: apps, sessions }, pathOrigin: 'own' }).start();
    host = new URL(apps.originOf(rig.projectId, rig.servicePort)).host;
  });
  afterAll(() => rig.stop());

  const at = (path: string, headers: Record<string, string> = {}, method = 'GET') =>
    send(rig.hubPort, path, { as: 'nobody', method, headers: { host, ...headers } });
  const cookie = 'rookery_app=owner';

  it('signs a browser in once, with the state that it was given, and goes on where it was', async () => {
    const asked = await at('/a/b?c=d', visit);
    expect([asked.status, asked.headers.location]).toEqual([303, 'https://hub.example/open']);
    const [state = ''] = asked.headers['set-cookie'] ?? [];
    expect(state).toMatch(
      /^rookery_state=state_[\w-]{43}; Path=\/; Max-Age=600; HttpOnly; SameSite=Lax$/,
    );
    const [shown = ''] = state.split(';');
    const code = '/.rookery/session?code=good';
    expect((await at(code, visit)).status).toBe(401);
    expect((await at(code, { cookie: shown })).status).toBe(404);
    const opened = await at(code, { ...visit, cookie: shown });
    expect([opened.status, opened.headers.location]).toEqual([303, '/a/b?c=d']);
    expect(opened.headers['set-cookie']?.[0]).toMatch(/^rookery_app=owner; Path=\/; .*HttpOnly/);
    // Used up: this browser asks for another one.
    const again = await at(code, { ...visit, cookie: shown });
    expect(again.headers.location).toBe('https://hub.example/open');
    expect(again.headers['set-cookie']?.[0]).toContain(shown);
  });

  it('hands the whole origin to the project, but for the hub’s own', async () => {
    const answer = await at('/deep/x?a=b', { ...visit, cookie: `${cookie}; theme=dark` });
    const seen = answer.json<{ url: string; headers: Record<string, string> }>();
    expect(seen).toMatchObject({ url: '/deep/x?a=b', headers: { host, cookie: 'theme=dark' } });
    expect(seen.headers).not.toHaveProperty('x-forwarded-prefix');
    expect(answer.headers).not.toHaveProperty('content-security-policy');
    const { headers } = await at('/cookies', { ...visit, cookie });
    expect(headers['set-cookie']).toEqual(['a=1; Path=/; HttpOnly', 'b=2']);
    expect(headers['service-worker-allowed']).toBe('/');
    expect(headers).not.toHaveProperty('clear-site-data');
    expect((await at('/redirect', { ...visit, cookie })).headers.location).toBe('/elsewhere');
    const basic = await at('/', { ...visit, cookie, authorization: 'Basic eDp5' });
    expect(basic.json<typeof seen>().headers.authorization).toBe('Basic eDp5');
    const ours = await at('/', { ...visit, cookie, authorization: 'Bearer rookery_x' });
    expect(ours.text).not.toContain('rookery_x');
    expect((await at('/.rookery/other', { ...visit, cookie })).status).toBe(404);
  });

  it.each([
    ['no page may post from elsewhere', 'POST', { 'sec-fetch-site': 'same-site' }, 401],
    ['nor with an old browser', 'POST', { origin: 'http://evil.localhost' }, 401],
    ['nor one that says nothing', 'POST', {}, 401],
    ['nor fetch', 'GET', { 'sec-fetch-site': 'same-site', 'sec-fetch-mode': 'no-cors' }, 401],
    [
      'nor frame',
      'GET',
      { ...visit, 'sec-fetch-site': 'same-site', 'sec-fetch-dest': 'iframe' },
      401,
    ],
    ['a link may lead here', 'GET', { ...visit, 'sec-fetch-site': 'cross-site' }, 200],
    ['the page itself may post', 'POST', { 'sec-fetch-site': 'same-origin' }, 200],
    ['also without a referrer', 'POST', { 'sec-fetch-site': 'same-origin', origin: 'null' }, 200],
  ])('with the cookie: %s', async (_what, method, headers, status) => {
    const answer = await at('/x', { cookie, ...headers }, method);
    expect(answer.status).toBe(status);
  });

  it('takes another port of the project for the project, and no other project', async () => {
    const from = (projectId: string) =>
      at(
        '/',
        { cookie, origin: apps.originOf(projectId, 9), 'sec-fetch-site': 'same-site' },
        'POST',
      );
    expect((await from(rig.projectId)).status).toBe(200);
    expect((await from(newId())).status).toBe(401);
    const open = (origin?: string): Promise<boolean> =>
      new Promise((resolve) => {
        const socket = new WebSocket(`ws://127.0.0.1:${rig.hubPort}/ws`, {
          headers: { host, cookie, ...(origin !== undefined && { origin }) },
        });
        socket.once('open', () => resolve(true)).once('error', () => resolve(false));
        socket.once('open', () => socket.terminate());
      });
    expect(await open(`http://${host}`)).toBe(true);
    expect(await open(apps.originOf(newId(), rig.servicePort))).toBe(false);
    expect(await open()).toBe(false);
  });

  it('is another one than the hub’s, where programs alone get answers', async () => {
    const path = rig.path('a?x=1');
    const page = await send(rig.hubPort, path, { as: 'nobody', headers: visit });
    expect([page.status, page.headers.location]).toEqual([302, `http://${host}/a?x=1`]);
    const withToken = rig.path('a?x=1&rookery_token=owner');
    const link = await send(rig.hubPort, withToken, { as: 'nobody', headers: visit });
    expect([link.status, link.headers.location]).toEqual([302, `http://${host}/a?x=1`]);
    for (const odd of [{ 'sec-fetch-dest': 'iframe' }, { 'sec-fetch-dest': 'embed' }]) {
      const framed = await send(rig.hubPort, path, { headers: { ...visit, ...odd } });
      expect([framed.status, framed.text]).toEqual([403, expect.stringMatching(/Open http:/)]);
    }
    const post = await send(rig.hubPort, path, { method: 'POST', headers: visit });
    expect(post.status).toBe(403);
    const program = await send(rig.hubPort, path);
    expect([program.status, program.headers['content-security-policy']]).toEqual([200, 'sandbox']);
    const session = { cookie: 'rookery_session=owner', 'sec-fetch-site': 'same-origin' };
    expect((await send(rig.hubPort, path, { as: 'nobody', headers: session })).status).toBe(401);
  });
});

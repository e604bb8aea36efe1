import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { Rig, send } from './rig.js';

describe('what a project sees and says', () => {
  let rig: Rig;
  beforeAll(async () => {
    rig = await new Rig().start();
  });
  afterAll(() => rig.stop());

  const seenWith = async (headers: Record<string, string | string[]>, query = '') => {
    const answer = await send(rig.hubPort, rig.path(query), { headers });
    expect(answer.status).toBe(200);
    return answer.json<{ url: string; headers: Record<string, string | undefined> }>();
  };

  it("gets none of the hub's cookies, tokens and forwarding headers", async () => {
    const { url, headers } = await seenWith(
      {
        cookie: 'rookery_session=owner; theme=dark; Rookery_Other=1; =rookery_x=2',
        authorization: 'Bearer owner',
        'x-forwarded-for': '6.6.6.6',
        'x-forwarded-user': 'root',
        forwarded: 'for=6.6.6.6',
        'x-real-ip': '6.6.6.6',
        'rookery-token': 'forged',
        'rookery-anything': '1',
        te: 'trailers',
        'keep-alive': 'timeout=9',
        'proxy-authorization': 'Basic x',
        referer: `http://hub/${rig.projectId}/port/1/?rookery_token=secret&a=1`,
        'x-own': 'kept',
      },
      '?rookery_token=owner&a=1',
    );
    expect(url).toBe(rig.path('?a=1'));
    expect(headers.cookie).toBe('theme=dark');
    expect(headers['x-own']).toBe('kept');
    expect(headers.referer).toBe(`http://hub/${rig.projectId}/port/1/?a=1`);
    const names = Object.keys(headers).filter((name) =>
      /^(authorization|forwarded|x-real-ip|te|keep-alive|proxy-|rookery-|x-forwarded-user)/.test(
        name,
      ),
    );
    expect(names).toEqual([]);
    expect(JSON.stringify(headers)).not.toMatch(/6\.6\.6\.6|forged|secret/);
  });

  it('gets one forwarding chain of our own, and the Host that the browser used', async () => {
    const { headers } = await seenWith({ host: 'hub.example:7700' });
    expect(headers).toMatchObject({
      host: 'hub.example:7700',
      'x-forwarded-for': '127.0.0.1, 127.0.0.1',
      'x-forwarded-host': 'hub.example:7700',
      'x-forwarded-proto': 'http',
    });
    expect(headers['x-forwarded-prefix']).toBeUndefined();
  });

  it('loses headers that Connection names, but not those that frame the message', async () => {
    const answer = await send(rig.hubPort, rig.path(), {
      method: 'POST',
      body: 'whole',
      headers: { connection: 'close, x-hop, content-length, host, rookery-token', 'x-hop': '1' },
    });
    const seen = answer.json<{ body: string; headers: Record<string, string> }>();
    expect(seen.body).toBe('whole');
    expect(seen.headers['x-hop']).toBeUndefined();
  });

  it('believes no X-Forwarded-* of a user who comes to the host with a token of his own', async () => {
    const token = await rig.minter.mint({
      aud: `host:${rig.host().hostId}`,
      sub: 'account:x',
      project: rig.projectId,
      role: 'owner',
    });
    const answer = await send(rig.host().port, rig.path(), {
      as: 'nobody',
      headers: { 'rookery-token': token, 'x-forwarded-for': '6.6.6.6', 'x-forwarded-host': 'evil' },
    });
    expect(answer.status).toBe(200);
    expect(answer.text).not.toMatch(/6\.6\.6\.6|evil/);
    expect(answer.text).not.toContain(token);
  });

  it('sets cookies only below its own path and never ours', async () => {
    const { headers } = await send(rig.hubPort, rig.path('cookies'));
    const base = rig.path();
    expect(headers['set-cookie']).toEqual([`a=1; Path=${base}; HttpOnly`, `b=2; Path=${base}`]);
  });

  it('does not speak for the origin that it shares, nor in our name', async () => {
    const { headers } = await send(rig.hubPort, rig.path('cookies'));
    expect(headers).not.toHaveProperty('clear-site-data');
    expect(headers).not.toHaveProperty('service-worker-allowed');
    expect(headers).not.toHaveProperty('rookery-error');
  });

  it('redirects within its prefix in server mode, and as it says in port mode', async () => {
    const server = await send(rig.hubPort, rig.path('redirect', 'server'));
    expect(server.headers.location).toBe(rig.path('elsewhere', 'server'));
    const port = await send(rig.hubPort, rig.path('redirect'));
    expect(port.headers.location).toBe('/elsewhere');
  });

  it.each([
    ['/a?b#c', 'a?b#c'],
    ['../../../../../api/v1', 'api/v1'],
    ['http://hub.example:7700/login?x', 'login?x'],
    ['https://hub.example:7700/login', 'login'],
    ['//hub.example:7700/login', 'login'],
  ])('leads below the prefix in server mode: %s', async (to, expected) => {
    const path = rig.path(`deep/redirect?to=${encodeURIComponent(to)}`, 'server');
    const { headers } = await send(rig.hubPort, path, { headers: { host: 'hub.example:7700' } });
    expect(headers.location).toBe(rig.path(expected, 'server'));
  });

  it.each(['b', '../b', '?c', 'https://elsewhere.example/x', 'mailto:a@b'])(
    'leaves other redirects as they are: %s',
    async (to) => {
      const path = rig.path(`deep/redirect?to=${encodeURIComponent(to)}`, 'server');
      expect((await send(rig.hubPort, path)).headers.location).toBe(to);
    },
  );

  it('stays below the prefix where that climbs out of it', async () => {
    const to = rig.path('../../../api', 'server');
    const path = rig.path(`redirect?to=${encodeURIComponent(to)}`, 'server');
    const { headers } = await send(rig.hubPort, path);
    expect(headers.location).toBe(rig.path('api', 'server'));
  });

  it('redirects to the slash, keeping the query', async () => {
    const answer = await send(rig.hubPort, `/${rig.projectId}/port/80?a=b`);
    expect(answer.status).toBe(308);
    expect(answer.headers.location).toBe(`/${rig.projectId}/port/80/?a=b`);
  });
});

import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { once } from 'node:events';
import { WebSocket } from 'ws';
import { Rig, send } from './rig.js';

interface Seen {
  method: string;
  url: string;
  headers: Record<string, string | undefined>;
  body: string;
}

describe('client → hub → host → service', () => {
  let rig: Rig;
  beforeAll(async () => {
    rig = await new Rig().start();
  });
  afterAll(() => rig.stop());

  it.each(['GET', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'])('carries %s', async (method) => {
    const body = method === 'GET' ? '' : `body of ${method}`;
    const answer = await send(rig.hubPort, rig.path('a/b?c=d'), { method, body });
    expect(answer.status).toBe(200);
    expect(answer.json<Seen>()).toMatchObject({ method, body, url: rig.path('a/b?c=d') });
  });

  it('answers HEAD without a body', async () => {
    const answer = await send(rig.hubPort, rig.path(), { method: 'HEAD' });
    expect(answer).toMatchObject({ status: 200, text: '' });
  });

  it('strips the prefix in server mode and says so', async () => {
    const answer = await send(rig.hubPort, rig.path('a?b=c', 'server'));
    const seen = answer.json<Seen>();
    expect(seen.url).toBe('/a?b=c');
    expect(seen.headers['x-forwarded-prefix']).toBe(rig.path('', 'server').slice(0, -1));
  });

  it('leaves what is not for a project to the app', async () => {
    expect((await send(rig.hubPort, '/api/v1/projects')).status).toBe(418);
    expect((await send(rig.hubPort, '/support/1')).status).toBe(418);
  });

  it('echoes WebSockets over both hops, text and binary', async () => {
    const socket = new WebSocket(`ws://127.0.0.1:${rig.hubPort}${rig.path('ws')}`, {
      headers: { authorization: 'Bearer owner' },
    });
    const [hello] = (await once(socket, 'message')) as [Buffer];
    const seen = JSON.parse(hello.toString()) as Seen;
    expect(seen.url).toBe(rig.path('ws'));
    expect(seen.headers.authorization).toBeUndefined();
    expect(seen.headers['rookery-token']).toBeUndefined();
    const big = Buffer.alloc(300_000, 7);
    socket.send(big);
    const [back] = (await once(socket, 'message')) as [Buffer];
    expect(back.equals(big)).toBe(true);
    socket.close();
    await once(socket, 'close');
  });
});

import { expect, it } from '@jest/globals';
import { generateKeyPairSync } from 'node:crypto';
import { once } from 'node:events';
import { AccessTokenMinter, newId } from '@rookery/core';
import { ProxyRole } from '@rookery/proxy';
import { WebSocket } from 'ws';
import { startHostApp } from '../examples/host-app.js';
import { closeServer, echoService, listen, send } from './rig.js';

it('runs the example: a Nest app with the way in before it', async () => {
  const { privateKey, publicKey } = generateKeyPairSync('ed25519');
  const { x = '' } = publicKey.export({ format: 'jwk' });
  const [hostId, projectId] = [newId(), newId()];
  const service = echoService();
  const servicePort = await listen(service);
  const { app, routes, url } = await startHostApp(hostId, [
    { kid: 'k', kty: 'OKP', crv: 'Ed25519', x },
  ]);
  try {
    const port = Number(new URL(url).port);
    const path = `/${projectId}/port/${servicePort}/`;
    expect((await send(port, '/healthz')).text).toBe('ok');
    expect((await send(port, path)).status).toBe(401);
    const token = await new AccessTokenMinter(privateKey, 'k').mint({
      aud: `host:${hostId}`,
      sub: 'account:a',
      project: projectId,
      role: 'viewer',
    });
    const headers = { 'rookery-token': token };
    expect((await send(port, path, { headers })).status).toBe(421);
    routes.set(projectId, { state: 'running', address: '127.0.0.1' });
    expect((await send(port, path, { headers })).json()).toMatchObject({ url: path });
    const socket = new WebSocket(`ws://127.0.0.1:${port}${path}`, { headers });
    await once(socket, 'message');
    const closed = once(socket, 'close');
    expect(app.get(ProxyRole).closeConnectionsOf({ projectId })).toBe(1);
    await closed;
  } finally {
    await app.close();
    await closeServer(service);
  }
});

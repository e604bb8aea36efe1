import { afterEach, describe, expect, it } from '@jest/globals';
import { once } from 'node:events';
import { request, type IncomingMessage } from 'node:http';
import { waitFor } from '@rookery/core';
import type { ProxyLimits } from '@rookery/proxy';
import { WebSocket } from 'ws';
import { accounts, Rig } from './rig.js';

const soon = { timeoutMs: 20_000, everyMs: 10 };
const never = 3_600_000;

let rig: Rig;
afterEach(() => rig.stop());

const start = async (limits: Partial<ProxyLimits>) => {
  rig = await new Rig(limits).start();
};

/** A WebSocket and a stream of events, both open. */
async function connect(word: string): Promise<{ socket: WebSocket; events: IncomingMessage }> {
  const headers = word === 'nobody' ? {} : { authorization: `Bearer ${word}` };
  const socket = new WebSocket(`ws://127.0.0.1:${rig.hubPort}${rig.path()}`, { headers });
  socket.on('error', () => undefined);
  const req = request({ port: rig.hubPort, path: rig.path('events'), headers }).end();
  req.on('error', () => undefined);
  const [[events]] = await Promise.all([
    once(req, 'response') as Promise<[IncomingMessage]>,
    once(socket, 'open'),
  ]);
  events.on('error', () => undefined).resume();
  return { socket, events };
}

/** Well or badly. */
const ended = (stream: IncomingMessage) =>
  new Promise<void>((resolve) => stream.once('close', () => resolve()));

const open = (): number => rig.hub.counts().sockets + rig.hub.counts().requests;
const atHost = (): number => {
  const { sockets, requests } = rig.host().ingress.counts();
  return sockets + requests;
};
const allClosed = () => waitFor('nothing is open', () => open() + atHost() === 0, soon);

describe('who has a connection and loses the right to it', () => {
  it('loses the connection too, without having asked for anything', async () => {
    await start({ recheckMs: 50 });
    const { socket, events } = await connect('owner');
    const closed = Promise.all([once(socket, 'close'), ended(events)]);
    const before = rig.resolver.askedCount;
    await waitFor('it was looked twice', () => rig.resolver.askedCount >= before + 4, soon);
    expect(open()).toBe(2);
    rig.resolver.members.delete(accounts.owner);
    await closed;
    await allClosed();
  });

  it('loses it at once when the hub is told, and nobody else does', async () => {
    await start({ recheckMs: never });
    rig.resolver.members.add(accounts.stranger);
    await connect('owner');
    const { socket } = await connect('stranger');
    rig.resolver.members.delete(accounts.stranger);
    const closed = once(socket, 'close');
    const stranger = { projectId: rig.projectId, subject: `account:${accounts.stranger}` };
    expect(await rig.hub.recheckAccess(stranger)).toBe(2);
    await closed;
    expect(await rig.hub.recheckAccess()).toBe(0);
    await waitFor("only the owner's are open", () => open() === 2 && atHost() === 2, soon);
  });

  it('loses it with the credential that opened it', async () => {
    await start({ recheckMs: never });
    await connect('owner');
    rig.authenticator.revoked.add('owner');
    expect(await rig.hub.recheckAccess()).toBe(2);
    await allClosed();
  });

  it('loses what was public and is not any more', async () => {
    await start({ recheckMs: never });
    rig.pointHub(0, [rig.servicePort]);
    await connect('nobody');
    expect(await rig.hub.recheckAccess()).toBe(0);
    rig.pointHub(0, []);
    expect(await rig.hub.recheckAccess()).toBe(2);
    await allClosed();
  });

  it('loses what belongs to a project that is gone', async () => {
    await start({ recheckMs: never });
    await connect('owner');
    rig.resolver.table.delete(rig.projectId);
    expect(await rig.hub.recheckAccess()).toBe(2);
    await allClosed();
  });

  it('keeps it while nobody can tell', async () => {
    await start({ recheckMs: never });
    await connect('owner');
    rig.resolver.away = true;
    expect(await rig.hub.recheckAccess()).toBe(0);
    expect(open()).toBe(2);
    rig.resolver.away = false;
    rig.resolver.members.clear();
    expect(await rig.hub.recheckAccess()).toBe(2);
    await allClosed();
  });
});

import { anyone } from '../auth/users-authenticator.js';
import { globalAccount } from '../broker/broker.js';
import { systemTime } from '../broker/system-time.js';
import type { ConnectionView } from '../broker/ports.js';
import { uptime, type Monitored } from './varz.js';

const limitDefault = 1_024;

type Order = (a: ConnectionView, b: ConnectionView) => number;
const most =
  (key: (view: ConnectionView) => number): Order =>
  (a, b) =>
    key(b) - key(a);
const orders: Readonly<Record<string, Order>> = {
  cid: (a, b) => a.id - b.id,
  start: (a, b) => a.sinceMs - b.sinceMs,
  subs: most(({ subscriptions }) => subscriptions.length),
  pending: most(({ pendingBytes }) => pendingBytes),
  msgs_to: most(({ messagesOut }) => messagesOut),
  msgs_from: most(({ messagesIn }) => messagesIn),
  bytes_to: most(({ bytesOut }) => bytesOut),
  bytes_from: most(({ bytesIn }) => bytesIn),
  last: most(({ lastActiveMs }) => lastActiveMs),
  idle: (a, b) => a.lastActiveMs - b.lastActiveMs,
  uptime: (a, b) => a.sinceMs - b.sinceMs,
  rtt: most(({ roundTripMs }) => roundTripMs ?? 0),
};

/** What is wrong with a page's query. */
export class QueryError extends Error {}

/**
 * `/connz`: who is connected. `sort`, `limit`, `offset`, `subs=1`, `cid`, `acc` and `auth=1` as
 * there. Those who have left are not remembered.
 */
export function connz({ broker }: Monitored, query: URLSearchParams): object {
  const sort = query.get('sort') ?? 'cid';
  const order = Object.hasOwn(orders, sort) ? orders[sort] : undefined;
  if (!order) throw new QueryError(`invalid sorting option: ${sort}`);
  const limit = number(query, 'limit', limitDefault) || limitDefault;
  const offset = number(query, 'offset', 0);
  const cid = number(query, 'cid', 0);
  if (['1', 'closed'].includes(query.get('state')?.toLowerCase() ?? '')) {
    throw new QueryError('closed connections are not remembered');
  }
  const wanted = query.get('acc');
  const all = broker
    .connections()
    .filter(({ id }) => cid === 0 || id === cid)
    .filter((view) => wanted === null || accountOf(view) === wanted);
  const page = all.sort(order).slice(offset, offset + limit);
  const nowMs = Date.now();
  return {
    server_id: broker.facts().id,
    now: systemTime(),
    num_connections: page.length,
    total: all.length,
    offset,
    limit,
    connections: page.map((view) => shown(view, nowMs, query)),
  };
}

const accountOf = ({ account }: ConnectionView): string => account || globalAccount;

function shown(view: ConnectionView, nowMs: number, query: URLSearchParams): object {
  const { roundTripMs, subscriptions } = view;
  return {
    cid: view.id,
    kind: 'Client',
    type: view.transport === 'websocket' ? 'websocket' : 'nats',
    ip: view.address,
    port: view.port,
    start: new Date(view.sinceMs).toISOString(),
    last_activity: new Date(view.lastActiveMs).toISOString(),
    ...(roundTripMs !== null && { rtt: `${roundTripMs.toFixed(3)}ms` }),
    uptime: uptime(nowMs - view.sinceMs),
    idle: uptime(nowMs - view.lastActiveMs),
    pending_bytes: view.pendingBytes,
    in_msgs: view.messagesIn,
    out_msgs: view.messagesOut,
    in_bytes: view.bytesIn,
    out_bytes: view.bytesOut,
    subscriptions: subscriptions.length,
    ...(view.name !== '' && { name: view.name }),
    ...(view.lang !== '' && { lang: view.lang }),
    ...(view.version !== '' && { version: view.version }),
    ...(isSet(query, 'auth') && {
      ...(view.identity !== anyone && { authorized_user: view.identity }),
      ...(view.account !== '' && { account: view.account }),
      name_tag: accountOf(view),
    }),
    ...(isSet(query, 'subs') &&
      subscriptions.length > 0 && {
        subscriptions_list: subscriptions.map((text) => Buffer.from(text, 'latin1').toString()),
      }),
  };
}

export const isSet = (query: URLSearchParams, key: string): boolean =>
  ['1', 'true', 't', 'detail'].includes(query.get(key)?.toLowerCase() ?? '');

export function number(query: URLSearchParams, key: string, otherwise: number): number {
  const text = query.get(key);
  if (text === null || text === '') return otherwise;
  if (!/^\d{1,15}$/.test(text)) throw new QueryError(`${key} must be a number, not "${text}"`);
  return Number(text);
}

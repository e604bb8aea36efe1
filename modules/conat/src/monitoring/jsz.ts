import type { InternalClient } from '../broker/internal-client.js';
import { systemTime } from '../broker/system-time.js';
import { globalAccount } from '../broker/broker.js';
import type { Broker } from '../broker/broker.js';
import type { PersistentAccount } from '../persistence.js';
import { isSet, number } from './connz.js';
import { jetStreamConfig, type Monitored } from './varz.js';

const answerDeadlineMs = 5_000;
/** Accounts and streams that one page asks for. */
const pagesMax = 100;
const accountsDefault = 1_024;

type Json = Record<string, unknown>;

interface Totals extends Json {
  memory: number;
  storage: number;
  reserved_memory: number;
  reserved_storage: number;
}

/** Asks one account as a client would. */
class ApiAsker {
  private lastReply = 0;

  constructor(
    private readonly client: InternalClient,
    private readonly account: PersistentAccount,
  ) {}

  /** The answer, or null when there is none. */
  ask(what: string, body: Json = {}): Promise<Json | null> {
    const { apiPrefix, id } = this.account;
    this.lastReply += 1;
    const reply = `_INBOX.${this.client.identity.name}.${id}.${this.lastReply}`;
    return new Promise((resolve) => {
      const end = (answer: Json | null): void => {
        clearTimeout(timer);
        unsubscribe();
        resolve(answer);
      };
      const timer = setTimeout(() => end(null), answerDeadlineMs);
      const unsubscribe = this.client.subscribe(reply, '', ({ payload }) => {
        const answer = payload.length === 0 ? null : (JSON.parse(payload.toString()) as Json);
        // Not within the call that brings it.
        setImmediate(() => end(answer && 'error' in answer ? null : answer));
      });
      const payload = Object.keys(body).length === 0 ? '' : JSON.stringify(body);
      this.client.publish({ to: `${apiPrefix}${what}`, reply, payload: Buffer.from(payload) });
    });
  }

  /** All pages of a list. */
  async list(what: string, key: string): Promise<Json[]> {
    const found: Json[] = [];
    for (let page = 0; page < pagesMax; page += 1) {
      const answer = await this.ask(what, { offset: found.length });
      const part = (answer?.[key] as Json[] | null | undefined) ?? [];
      found.push(...part);
      if (part.length === 0 || found.length >= Number(answer!.total)) break;
    }
    return found;
  }
}

/**
 * `/jsz`: streams and consumers. `accounts`, `streams`, `consumers`, `config`, `acc`, `limit` and
 * `offset` as there; the counts are of all accounts.
 */
export async function jsz(monitored: Monitored, query: URLSearchParams): Promise<Json> {
  const { broker, persistence, storeDir } = monitored;
  const head = { server_id: broker.facts().id, now: systemTime() };
  if (!persistence) return { ...head, disabled: true, ...noTotals(), ...counts([]) };
  const accounts = persistence.accounts();
  const details: AccountDetail[] = [];
  for (const account of accounts) details.push(await inside(monitored, account, query));
  const wanted = query.get('acc');
  const named = details.filter(({ shown }) => wanted === null || shown.name === wanted);
  const showsAccounts =
    wanted !== null || ['accounts', 'streams', 'consumers'].some((key) => isSet(query, key));
  const from = number(query, 'offset', 0);
  named.sort((a, b) => (String(a.shown.name) < String(b.shown.name) ? -1 : 1));
  const page = named.slice(from, from + (number(query, 'limit', accountsDefault) || Infinity));
  return {
    ...head,
    config: jetStreamConfig(storeDir),
    limits: {},
    ...sum(details.map(({ totals }) => totals)),
    accounts: accounts.length,
    ha_assets: 0,
    api: {
      level: persistence.apiLevel,
      total: details.reduce((total, { api }) => total + Number(api?.total ?? 0), 0),
      errors: details.reduce((total, { api }) => total + Number(api?.errors ?? 0), 0),
    },
    ...counts(details),
    ...(showsAccounts && page.length > 0 && { account_details: page.map(({ shown }) => shown) }),
    total: accounts.length,
  };
}

async function inside(
  { broker }: Monitored,
  account: PersistentAccount,
  query: URLSearchParams,
): Promise<AccountDetail> {
  const client = (broker.space(account.id) ?? broker).internal('monitoring');
  try {
    return await detailOf(new ApiAsker(client, account), nameOf(account, broker), query);
  } finally {
    client.close();
  }
}

const nameOf = ({ id, subjectPrefix }: PersistentAccount, broker: Broker): string =>
  subjectPrefix === '' && !broker.space(id) ? globalAccount : id;

interface AccountDetail {
  readonly totals: Totals;
  readonly api: Json | undefined;
  readonly streams: readonly { readonly state: Json; readonly consumers: number }[];
  readonly shown: Json;
}

async function detailOf(
  asker: ApiAsker,
  accountName: string,
  query: URLSearchParams,
): Promise<AccountDetail> {
  const info = await asker.ask('INFO');
  const streams = await asker.list('STREAM.LIST', 'streams');
  const withStreams = isSet(query, 'streams') || isSet(query, 'consumers');
  const shownStreams: Json[] = [];
  for (const { config, created, state } of withStreams ? streams : []) {
    const { name } = config as { name: string };
    const consumers = isSet(query, 'consumers')
      ? await asker.list(`CONSUMER.LIST.${name}`, 'consumers')
      : null;
    shownStreams.push({
      name,
      created,
      ...(isSet(query, 'config') && { config }),
      state,
      ...(consumers && { consumer_detail: consumers }),
    });
  }
  const totals = totalsOf(info);
  return {
    totals,
    api: info?.api as Json | undefined,
    streams: streams.map(({ state }) => ({
      state: state as Json,
      consumers: Number((state as Json).consumer_count ?? 0),
    })),
    shown: {
      name: accountName,
      id: accountName,
      ...totals,
      ...reservedFor(info),
      accounts: 0,
      ha_assets: 0,
      api: { total: 0, errors: 0, ...(info?.api as Json | undefined), level: 0 },
      ...(withStreams && { stream_detail: shownStreams }),
    },
  };
}

const noTotals = (): Totals => ({
  memory: 0,
  storage: 0,
  reserved_memory: 0,
  reserved_storage: 0,
});

function totalsOf(info: Json | null): Totals {
  const totals = noTotals();
  for (const key of Object.keys(totals)) totals[key] = Number(info?.[key] ?? 0);
  return totals;
}

/** As there: what the account may have is reserved for it, and no limit is -1 without its sign. */
function reservedFor(info: Json | null): Json {
  const { max_memory = -1, max_storage = -1 } = (info?.limits ?? {}) as Record<string, number>;
  const unsigned = (limit: number): number => (limit < 0 ? 2 ** 64 : limit);
  return { reserved_memory: unsigned(max_memory), reserved_storage: unsigned(max_storage) };
}

function sum(all: readonly Totals[]): Totals {
  const totals = noTotals();
  for (const each of all) {
    for (const key of Object.keys(totals)) {
      totals[key] = Number(totals[key]) + Number(each[key]);
    }
  }
  return totals;
}

function counts(details: readonly AccountDetail[]): Json {
  const streams = details.flatMap((detail) => detail.streams);
  const add = (of: (stream: (typeof streams)[number]) => unknown): number =>
    streams.reduce((total, stream) => total + Number(of(stream) ?? 0), 0);
  return {
    streams: streams.length,
    consumers: add(({ consumers }) => consumers),
    messages: add(({ state }) => state.messages),
    bytes: add(({ state }) => state.bytes),
  };
}

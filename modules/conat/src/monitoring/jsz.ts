import type { InternalClient } from '../broker/internal-client.js';
import type { JetStreamAccount } from '../jetstream/account.js';
import { isSet } from './connz.js';
import type { Monitored } from './varz.js';

const answerDeadlineMs = 5_000;
/** Accounts and streams that one page asks for. */
const pagesMax = 100;

type Json = Record<string, unknown>;

interface Totals extends Json {
  memory: number;
  storage: number;
  reserved_memory: number;
  reserved_storage: number;
}

/** Asks accounts as a client would. */
class ApiAsker {
  private lastReply = 0;

  constructor(private readonly client: InternalClient) {}

  /** The answer, or null when there is none. */
  ask({ apiPrefix, id }: JetStreamAccount, what: string, body: Json = {}): Promise<Json | null> {
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
  async list(account: JetStreamAccount, what: string, key: string): Promise<Json[]> {
    const found: Json[] = [];
    for (let page = 0; page < pagesMax; page += 1) {
      const answer = await this.ask(account, what, { offset: found.length });
      const part = (answer?.[key] as Json[] | null | undefined) ?? [];
      found.push(...part);
      if (part.length === 0 || found.length >= Number(answer!.total)) break;
    }
    return found;
  }
}

/** `/jsz`: streams and consumers. `accounts`, `streams`, `consumers`, `config` and `acc` as there. */
export async function jsz(monitored: Monitored, query: URLSearchParams): Promise<Json> {
  const { broker, jetStream, storeDir } = monitored;
  const head = { server_id: broker.facts().id, now: new Date().toISOString() };
  if (!jetStream) return { ...head, disabled: true, ...noTotals(), ...counts([]) };
  const client = broker.internal('monitoring');
  try {
    const asker = new ApiAsker(client);
    const wanted = query.get('acc');
    const accounts = jetStream.accounts().filter(({ id }) => wanted === null || id === wanted);
    const details: AccountDetail[] = [];
    for (const account of accounts) details.push(await detailOf(asker, account, query));
    const showsAccounts = ['accounts', 'streams', 'consumers'].some((key) => isSet(query, key));
    return {
      ...head,
      config: { max_memory: -1, max_storage: -1, store_dir: storeDir ?? '' },
      limits: {},
      ...sum(details.map(({ totals }) => totals)),
      accounts: accounts.length,
      ha_assets: 0,
      api: {
        level: 0,
        total: jetStream.counters.requests,
        errors: 0,
        ...details[0]?.api,
      },
      ...counts(details),
      ...(showsAccounts && { account_details: details.map(({ shown }) => shown) }),
    };
  } finally {
    client.close();
  }
}

interface AccountDetail {
  readonly totals: Totals;
  readonly api: Json | undefined;
  readonly streams: readonly { readonly state: Json; readonly consumers: number }[];
  readonly shown: Json;
}

async function detailOf(
  asker: ApiAsker,
  account: JetStreamAccount,
  query: URLSearchParams,
): Promise<AccountDetail> {
  const info = await asker.ask(account, 'INFO');
  const streams = await asker.list(account, 'STREAM.LIST', 'streams');
  const withStreams = isSet(query, 'streams') || isSet(query, 'consumers');
  const shownStreams: Json[] = [];
  for (const { config, created, state } of withStreams ? streams : []) {
    const { name } = config as { name: string };
    const consumers = isSet(query, 'consumers')
      ? await asker.list(account, `CONSUMER.LIST.${name}`, 'consumers')
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
      name: account.subjectPrefix === '' ? '$G' : account.id,
      id: account.subjectPrefix === '' ? '$G' : account.id,
      ...totals,
      accounts: 0,
      ha_assets: 0,
      api: info?.api ?? {},
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

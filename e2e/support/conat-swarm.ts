import { headers } from '@nats-io/nats-core';
import type { KV } from '@nats-io/kv';
import { ConatClient } from '@rookery/conat';
import { RoutedConatClient } from '@rookery/fleet';
import type { RookeryClient } from '@rookery/client';
import { createLogger } from '@rookery/core';

type Watch = Awaited<ReturnType<KV['watch']>>;

const askTimeoutMs = 5_000;
const again = 50;

/** A generator that gives the same numbers for the same seed, below 1. */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

export const delay = (ms: number): Promise<void> => new Promise((end) => setTimeout(end, ms));

/** A client of its own, connected as one is who has the cluster's API key. */
export async function routedClient(
  hub: RookeryClient,
  token: string,
): Promise<RoutedConatClient & { end: () => Promise<void> }> {
  const { url, inboxPrefix } = await hub.createConatToken();
  const logger = createLogger('swarm', 'silent');
  const control = await ConatClient.connect({
    servers: url,
    identity: inboxPrefix.replace('_INBOX.', ''),
    credentials: { token },
    logger,
    connectTimeoutMs: 30_000,
  });
  const routed = new RoutedConatClient({
    control,
    credentials: { token },
    logger,
    limits: { connectTimeoutMs: 60_000 },
  });
  const end = async (): Promise<void> => {
    await routed.close();
    await control.close();
  };
  return Object.assign(routed, { end });
}

/**
 * Publishes durably, asks, puts a key and watches all keys, until told to stop. What an answer does
 * not come for is said again with the same id.
 */
export class Worker {
  /** The last number that persistence has acknowledged; numbers begin at 1. */
  acknowledged = 0;
  /** Acknowledged, but said to have been there before: the first answer was lost. */
  repeated = 0;
  /** Tries that ended with an error. */
  refused = 0;
  answered = 0;
  readonly wrong: string[] = [];
  readonly watched = new Map<string, string>();
  lastPut = '';
  private stopping = false;
  private watch: Watch | undefined;
  private lastRevision = 0;
  private running: Promise<unknown> = Promise.resolve();

  constructor(
    private readonly name: string,
    private readonly projectId: string,
    private readonly client: RoutedConatClient & { end: () => Promise<void> },
    private readonly random: () => number,
  ) {}

  async start(bucket: string): Promise<void> {
    const kv = await this.client.kv(this.projectId, bucket);
    this.watch = await kv.watch();
    void this.follow(this.watch);
    const put = async (): Promise<void> => {
      const value = String(this.acknowledged);
      if (await this.tried(() => kv.put(this.name, value))) this.lastPut = value;
    };
    this.running = Promise.all([
      this.loop(10, () => this.publish()),
      this.loop(100, () => this.ask()),
      this.loop(1_000, put),
    ]);
  }

  /** Says nothing more; goes on watching. */
  async quiet(): Promise<void> {
    this.stopping = true;
    await this.running;
  }

  async end(): Promise<void> {
    this.watch?.stop();
    await this.client.end();
  }

  private async loop(everyMs: number, task: () => Promise<void>): Promise<void> {
    while (!this.stopping) {
      await task();
      await delay(everyMs * (0.5 + this.random()));
    }
  }

  private async publish(): Promise<void> {
    const next = this.acknowledged + 1;
    const hdrs = headers();
    hdrs.set('Nats-Msg-Id', `${this.name}-${next}`);
    const subject = `project.${this.projectId}.log.${this.name}`;
    await this.tried(async () => {
      const reply = await this.client.request(subject, String(next), {
        headers: hdrs,
        timeoutMs: askTimeoutMs,
      });
      const ack = reply.json<{ seq?: number; duplicate?: boolean; error?: object }>();
      // A refusal names a sequence, too: 0.
      if (ack.error !== undefined || !ack.seq) throw new Error(JSON.stringify(ack));
      if (ack.duplicate === true) this.repeated += 1;
      this.acknowledged = next;
    });
  }

  private async ask(): Promise<void> {
    const question = `${this.name} ${this.answered}`;
    await this.tried(async () => {
      const reply = await this.client.request(`project.${this.projectId}.echo`, question, {
        idempotent: true,
        timeoutMs: askTimeoutMs,
      });
      if (reply.string() !== question) this.wrong.push(`${question}: ${reply.string()}`);
      this.answered += 1;
    });
  }

  private async tried(task: () => Promise<unknown>): Promise<boolean> {
    try {
      await task();
      return true;
    } catch {
      this.refused += 1;
      await delay(again);
      return false;
    }
  }

  private async follow(watch: Watch): Promise<void> {
    for await (const { key, revision, ...entry } of watchEntries(watch)) {
      if (revision <= this.lastRevision) this.wrong.push(`${key} of ${revision} came late`);
      this.lastRevision = revision;
      this.watched.set(key, entry.value);
    }
    if (!this.stopping) this.wrong.push('the watch has ended');
  }
}

async function* watchEntries(watch: Watch) {
  for await (const entry of watch) {
    yield { key: entry.key, revision: entry.revision, value: entry.string() };
  }
}

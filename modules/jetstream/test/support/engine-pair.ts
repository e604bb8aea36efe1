import { isDeepStrictEqual } from 'node:util';
import { createInbox, headers, wsconnect, type Msg, type NatsConnection } from '@nats-io/nats-core';
import { NatsServerOracle } from '@rookery/conat/testing';
import { waitFor } from '@rookery/core';
import { bytesOf, EngineRig, type Header } from './engine-rig.js';

/** The versions differ, and a server has no limit of streams. */
const ownOfServer = new Set(['_nats.ver', '_nats.level', 'max_streams']);
const times = new Set(['created', 'ts', 'first_ts', 'last_ts', 'time', 'timestamp']);
const noTime = '0001-01-01T00:00:00Z';

/** What differs between two runs of the same server is made equal. */
function normalized(value: unknown, key = ''): unknown {
  if (times.has(key)) return value === noTime ? value : 'T';
  if (Array.isArray(value)) return value.map((inner) => normalized(inner));
  if (typeof value !== 'object' || value === null) return value;
  // A server names itself as the leader of its streams; a single broker leads all of them.
  const shown = Object.entries(value).filter(([name]) => name !== 'cluster' || key === 'placement');
  const entries = shown.map(([name, inner]) => {
    const isServers = ownOfServer.has(name) || (key === 'api' && name === 'level');
    return [name, isServers ? 'SERVER' : normalized(inner, name)];
  });
  const copy = Object.fromEntries(entries) as Record<string, unknown>;
  // A server counts the message 0 as deleted when the first of a new stream was refused.
  if (isDeepStrictEqual(copy.deleted, [0])) {
    delete copy.deleted;
    delete copy.num_deleted;
  }
  // Where in the JSON it went wrong is said in each language's own words.
  if (copy.err_code === 10025) copy.description = 'invalid JSON';
  if (typeof copy.description === 'string') copy.description = inOrder(copy.description);
  return copy;
}

/** A server names consumers in the order of a Go map: another each time. */
const inOrder = (description: string): string =>
  description.replace(/(?<=violates consumers: ).*/, (names) =>
    names.split(', ').sort().join(', '),
  );

/** One message as a client sees it. */
interface Seen {
  readonly status: string;
  readonly headers: readonly string[];
  readonly payload: unknown;
}

/** The same requests to an engine of ours and to a real nats-server. */
export class EnginePair {
  /** Every request that was answered otherwise; a test ends by finding none. */
  differences: string[] = [];

  private constructor(
    readonly ours: EngineRig,
    private readonly oracle: NatsServerOracle,
    readonly theirs: NatsConnection,
  ) {}

  static async start(): Promise<EnginePair> {
    const oracle = await NatsServerOracle.start();
    const theirs = await wsconnect({ servers: oracle.url });
    return new EnginePair(new EngineRig(), oracle, theirs);
  }

  async close(): Promise<void> {
    this.ours.close();
    await this.theirs.close();
    await this.oracle.close();
  }

  /** Answers to one request: ours, then the server's. */
  async request(subject: string, payload: unknown = '', header?: Header): Promise<[Seen, Seen]> {
    const options = { timeout: 3_000, ...(header ? { headers: headersOf(header) } : {}) };
    const theirs = await this.theirs.request(subject, bytesOf(payload), options);
    const [ours] = this.ours.request(subject, payload, header);
    return [ours ? seenFromOurs(ours) : nothing, seenFromTheirs(theirs)];
  }

  /** The same request, whose answer must be the same. @returns ours */
  async same(subject: string, payload: unknown = '', header?: Header): Promise<Seen> {
    const [ours, theirs] = await this.request(subject, payload, header);
    this.compare({ subject, payload, header }, ours, theirs);
    return ours;
  }

  api(subject: string, body: unknown = '', header?: Header): Promise<Seen> {
    return this.same(`$JS.API.${subject}`, body, header);
  }

  /** A request with many answers, up to the status that ends them. @returns ours */
  async sameMany(subject: string, payload: unknown): Promise<Seen[]> {
    const inbox = createInbox();
    const theirs: Seen[] = [];
    const subscription = this.theirs.subscribe(inbox, {
      callback: (_error, message) => void theirs.push(seenFromTheirs(message)),
    });
    this.theirs.publish(subject, bytesOf(payload), { reply: inbox });
    const ended = (): boolean => theirs.length > 0 && theirs[theirs.length - 1]!.status !== '';
    await waitFor('the last answer', () => ended(), { timeoutMs: 10_000, everyMs: 5 });
    subscription.unsubscribe();
    const ours = this.ours.request(subject, payload).map(seenFromOurs);
    this.compare({ subject, payload }, ours, theirs);
    return ours;
  }

  /** Takes messages from a pull consumer and acknowledges them. @returns their payloads */
  async pull(stream: string, consumer: string, batch: number): Promise<string[]> {
    const next = `$JS.API.CONSUMER.MSG.NEXT.${stream}.${consumer}`;
    const body = { batch, no_wait: true, expires: 1_000_000_000 };
    const inbox = createInbox();
    const theirs: string[] = [];
    let ended = false;
    const subscription = this.theirs.subscribe(inbox, {
      callback: (_error, message) => {
        if (message.headers?.code) ended = true;
        else theirs.push(message.string());
        message.respond();
      },
    });
    this.theirs.publish(next, bytesOf(body), { reply: inbox });
    const done = (): boolean => ended || theirs.length === batch;
    await waitFor('all messages', () => done(), { timeoutMs: 10_000, everyMs: 5 });
    subscription.unsubscribe();
    await this.theirs.flush();
    const delivered = this.ours.request(next, body).filter(({ reply }) => reply !== '');
    for (const { reply } of delivered) this.ours.say(reply, '');
    const ours = delivered.map(({ payload }) => payload.toString());
    this.compare({ next, batch }, ours, theirs);
    return ours;
  }

  /** A server takes acknowledged messages away a moment later. */
  async settled(stream: string): Promise<void> {
    await this.theirState(stream, this.ours.api<StreamInfo>(`STREAM.INFO.${stream}`).state);
  }

  /** Waits until a server has expired what it should, and lets as much time pass for ours. */
  async expired(stream: string, left: StreamState): Promise<void> {
    await this.theirState(stream, left);
    const stateOfOurs = (): StreamState => this.ours.api<StreamInfo>(`STREAM.INFO.${stream}`).state;
    // In small steps: what is left would expire next.
    for (let i = 0; i < 100 && !isSameState(stateOfOurs(), left); i += 1) this.ours.pass(100);
  }

  private async theirState(stream: string, state: StreamState): Promise<void> {
    const reached = async (): Promise<boolean> => {
      const answer = await this.theirs.request(`$JS.API.STREAM.INFO.${stream}`);
      // An API request of ours, too, so that both have counted the same.
      this.ours.api(`STREAM.INFO.${stream}`);
      const found = answer.json<StreamInfo>().state;
      return isSameState(found, state);
    };
    const what = `${stream} has ${state.messages} messages up to ${state.last_seq}`;
    await waitFor(what, reached, { timeoutMs: 20_000, everyMs: 20 });
  }

  /** Makes a stream that lives as long as `run`. */
  async withStream(config: Record<string, unknown>, run: () => Promise<void>): Promise<void> {
    const name = String(config.name);
    await this.api(`STREAM.CREATE.${name}`, config);
    try {
      await run();
      await this.api(`STREAM.INFO.${name}`, { subjects_filter: '>' });
    } finally {
      await this.api(`STREAM.DELETE.${name}`);
    }
  }

  private compare(asked: unknown, ours: unknown, theirs: unknown): void {
    const found = differences(ours, theirs);
    if (found.length > 0) this.differences.push(`${JSON.stringify(asked)}: ${found.join('; ')}`);
  }
}

/** Each place where two values are not the same, in words. */
function differences(ours: unknown, theirs: unknown, at = ''): string[] {
  if (isDeepStrictEqual(ours, theirs)) return [];
  const areObjects = [ours, theirs].every((value) => typeof value === 'object' && value !== null);
  if (!areObjects) return [`${at} is ${JSON.stringify(ours)}, not ${JSON.stringify(theirs)}`];
  const keys = new Set([...Object.keys(ours as object), ...Object.keys(theirs as object)]);
  return [...keys].flatMap((key) =>
    differences(
      (ours as Record<string, unknown>)[key],
      (theirs as Record<string, unknown>)[key],
      `${at}.${key}`,
    ),
  );
}

interface StreamState {
  readonly messages: number;
  readonly last_seq: number;
}

interface StreamInfo {
  readonly state: StreamState;
}

const isSameState = (one: StreamState, other: StreamState): boolean =>
  one.messages === other.messages && one.last_seq === other.last_seq;

const nothing: Seen = { status: 'no answer', headers: [], payload: null };

function headersOf(header: Header): ReturnType<typeof headers> {
  const all = headers();
  for (const [key, value] of Object.entries(header)) all.append(key, value);
  return all;
}

function seenFromOurs({
  headers: block,
  payload,
}: {
  headers: Buffer | null;
  payload: Buffer;
}): Seen {
  const [first = '', ...lines] = (block?.toString() ?? '')
    .split('\r\n')
    .filter((line) => line !== '');
  return seen(first.slice('NATS/1.0'.length).trim(), lines, payload);
}

function seenFromTheirs({ headers: block, data }: Msg): Seen {
  const status = block?.code ? `${block.code} ${block.description}`.trim() : '';
  const lines = (block?.keys() ?? []).flatMap((key) =>
    block!.values(key).map((value) => `${key}: ${value}`),
  );
  return seen(status, lines, Buffer.from(data));
}

function seen(status: string, lines: readonly string[], payload: Buffer): Seen {
  const normal = lines.map((line) => line.replace(/^(Nats-Time-Stamp): .*/, '$1: T'));
  const text = payload.toString();
  const isJson = /^[{[]/.test(text);
  return {
    status,
    headers: [...normal].sort(),
    payload: isJson ? normalized(JSON.parse(text)) : text,
  };
}

import { SystemClock } from '@rookery/core';
import { rootAccount } from '../../src/account.js';
import { createEngine } from '../../src/engine/account-engine.js';
import type { AccountStore } from '../../src/engine/account-store.js';
import { Outbox, type OutgoingMessage } from '../../src/engine/engine-io.js';
import type { Engine } from '../../src/engine/engine.js';
import { isSubset } from '../../src/engine/subject-match.js';
import { SqliteAccountStore } from '../../src/store/sqlite-account.store.js';

/** The system's time, which a test can move on. */
class MovedClock extends SystemClock {
  aheadMs = 0;

  override now(): number {
    return Date.now() + this.aheadMs;
  }
}

class CollectingOutbox extends Outbox {
  readonly listened = new Map<string, readonly string[]>();
  said: OutgoingMessage[] = [];

  send(message: OutgoingMessage): void {
    this.said.push(message);
  }

  listen(stream: string, subjects: readonly string[]): void {
    if (subjects.length === 0) this.listened.delete(stream);
    else this.listened.set(stream, subjects);
  }

  watch(): void {}
  unwatch(): void {}
}

export type Header = Readonly<Record<string, string>>;

/** An account's engine over a real store, with just as much of a broker as routes a request. */
export class EngineRig {
  readonly clock = new MovedClock();
  readonly outbox = new CollectingOutbox();
  store: AccountStore;
  engine: Engine;
  private requests = 0;

  constructor(private readonly file = ':memory:') {
    this.store = new SqliteAccountStore(file);
    this.engine = this.open();
  }

  /** Messages to the requester, in order, after everything was committed. */
  request(subject: string, payload: unknown = '', headers?: Header): OutgoingMessage[] {
    this.requests += 1;
    const reply = `_INBOX.rig.${this.requests}`;
    this.say(subject, payload, reply, headers);
    return this.take(reply);
  }

  say(subject: string, payload: unknown, reply = '', headers?: Header): void {
    const input = { reply, headers: headerBlock(headers), payload: bytesOf(payload) };
    if (subject.startsWith('$JS.API.')) {
      this.engine.handle({ kind: 'api', subject: subject.slice(8), ...input });
    } else if (subject.startsWith('$JS.ACK.')) {
      this.engine.handle({ kind: 'ack', subject: subject.slice(8), ...input });
    } else {
      for (const [stream, subjects] of this.outbox.listened) {
        if (!subjects.some((filter) => isSubset(subject, filter))) continue;
        this.engine.handle({ kind: 'publish', stream, subject, ...input });
      }
    }
    this.wakeIfDue();
    this.store.commit();
  }

  private wakeIfDue(): void {
    const now = this.clock.now();
    if ((this.engine.nextWakeMs() ?? Infinity) <= now) this.engine.wake(now);
  }

  /** What was said to a subject since it was last asked for. */
  take(to: string): OutgoingMessage[] {
    const taken = this.outbox.said.filter((message) => message.to === to);
    this.outbox.said = this.outbox.said.filter((message) => message.to !== to);
    return taken;
  }

  api<T = Record<string, unknown>>(subject: string, body: unknown = '', headers?: Header): T {
    const [answer] = this.request(`$JS.API.${subject}`, body, headers);
    return JSON.parse(answer!.payload.toString()) as T;
  }

  publish(subject: string, payload: unknown = '', headers?: Header): Record<string, unknown> {
    const [answer] = this.request(subject, payload, headers);
    return JSON.parse(answer!.payload.toString()) as Record<string, unknown>;
  }

  /** Lets time pass and does what is due. */
  pass(ms: number): void {
    this.clock.aheadMs += ms;
    this.engine.wake(this.clock.now());
    this.store.commit();
  }

  /** Ends as a host does, and begins again with the file. */
  reopen(): void {
    this.engine.flush();
    this.store.flush();
    this.store.close();
    this.store = new SqliteAccountStore(this.file);
    this.outbox.listened.clear();
    this.engine = this.open();
  }

  close(): void {
    this.store.close();
  }

  private open(): Engine {
    return createEngine(rootAccount('test', this.file), this.store, this.outbox, this.clock);
  }
}

export function bytesOf(payload: unknown): Buffer {
  if (Buffer.isBuffer(payload)) return payload;
  return Buffer.from(typeof payload === 'string' ? payload : JSON.stringify(payload));
}

function headerBlock(headers?: Header): Buffer | null {
  if (!headers) return null;
  const lines = Object.entries(headers).map(([key, value]) => `${key}: ${value}\r\n`);
  return Buffer.from(`NATS/1.0\r\n${lines.join('')}\r\n`);
}

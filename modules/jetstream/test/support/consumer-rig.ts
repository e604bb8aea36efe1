import { Clock } from '@rookery/core';
import { spaceAccount } from '../../src/account.js';
import { createEngine } from '../../src/engine/account-engine.js';
import type { Engine } from '../../src/engine/engine.js';
import { Outbox, type OutgoingMessage } from '../../src/engine/engine-io.js';
import { SqliteAccountStore } from '../../src/store/sqlite-account.store.js';

/** A clock that moves when it is told to. */
class HandClock extends Clock {
  constructor(public nowMs = 1_700_000_000_000) {
    super();
  }

  now(): number {
    return this.nowMs;
  }

  delay(): Promise<void> {
    throw new Error('an engine does not wait');
  }
}

class Recorder extends Outbox {
  sent: OutgoingMessage[] = [];
  readonly watched = new Set<string>();
  readonly listening = new Map<string, readonly string[]>();

  send(message: OutgoingMessage): void {
    // That streams and consumers come and go has its own test.
    if (!/\$JS\.EVENT\.ADVISORY\.\w+\.(CREATED|DELETED|PAUSE)\./.test(message.to)) {
      this.sent.push(message);
    }
  }

  listen(stream: string, subjects: readonly string[]): void {
    this.listening.set(stream, subjects);
  }

  watch(subject: string): void {
    this.watched.add(subject);
  }

  unwatch(subject: string): void {
    this.watched.delete(subject);
  }
}

const none = Buffer.alloc(0);

/** An engine over a store in memory, driven by hand as its runtime would. */
export class ConsumerRig {
  readonly clock = new HandClock();
  readonly outbox = new Recorder();
  readonly store = new SqliteAccountStore(':memory:');
  readonly account = spaceAccount({ root: 'space', id: 'p1' }, ':memory:');
  engine: Engine = createEngine(this.account, this.store, this.outbox, this.clock);

  /** What was said since the last look. */
  take(): OutgoingMessage[] {
    const { sent } = this.outbox;
    this.outbox.sent = [];
    return sent;
  }

  /** As lines: `<to> <shown> <deliveries>/<sseq>/<cseq>/<pending> <payload or status>`. */
  lines(): string[] {
    return this.take().map(({ to, shown, reply, headers, payload }) => {
      const status = headers?.toString('latin1').split('\r\n')[0]?.slice(9) ?? '';
      const place = reply.split('.').slice(-5);
      const short = reply.startsWith('$JS.ACK')
        ? `${place[0]}/${place[1]}/${place[2]}/${place[4]}`
        : '-';
      return `${to} ${shown || '-'} ${short} ${payload.toString()}${status && `[${status}]`}`;
    });
  }

  api(subject: string, body: unknown = ''): Record<string, unknown> {
    this.engine.handle({
      kind: 'api',
      subject,
      reply: '_INBOX.me.api',
      headers: null,
      payload: body === '' ? none : Buffer.from(JSON.stringify(body)),
    });
    const answer = this.outbox.sent.findLast(({ to }) => to === '_INBOX.me.api');
    if (!answer) throw new Error(`${subject} was not answered`);
    this.outbox.sent = this.outbox.sent.filter((message) => message !== answer);
    return JSON.parse(answer.payload.toString()) as Record<string, unknown>;
  }

  stream(config: object = {}): void {
    const name = 'S';
    const answer = this.api('STREAM.CREATE.S', { name, subjects: ['a.>'], ...config });
    if (answer.error) throw new Error(JSON.stringify(answer.error));
  }

  consumer(config: object, stream = 'S'): Record<string, unknown> {
    return this.api(`CONSUMER.CREATE.${stream}.C`, {
      stream_name: stream,
      config: { name: 'C', ack_policy: 'explicit', ...config },
    });
  }

  publish(subject: string, text: string): void {
    this.engine.handle({
      kind: 'publish',
      stream: 'S',
      subject,
      reply: '',
      headers: null,
      payload: Buffer.from(text),
    });
    this.settle();
  }

  pull(request: object | string, reply = 'box'): void {
    const text = typeof request === 'string' ? request : JSON.stringify(request);
    this.engine.handle({
      kind: 'api',
      subject: 'CONSUMER.MSG.NEXT.S.C',
      reply,
      headers: null,
      payload: Buffer.from(text),
    });
    this.settle();
  }

  ack(place: OutgoingMessage, text = '+ACK', reply = ''): void {
    this.engine.handle({
      kind: 'ack',
      subject: place.reply.slice(this.account.ackPrefix.length),
      reply,
      payload: Buffer.from(text),
    });
    this.settle();
  }

  interest(subject: string, present: boolean): void {
    this.engine.handle({ kind: 'interest', subject, present });
    this.settle();
  }

  info(): Record<string, unknown> {
    return this.api('CONSUMER.INFO.S.C');
  }

  /** Does what is due now, as the runtime does behind each batch. */
  settle(): void {
    for (let turns = 0; ; turns += 1) {
      const next = this.engine.nextWakeMs();
      if (next === null || next > this.clock.nowMs) break;
      if (turns > 1_000) throw new Error('the engine never rests');
      this.engine.wake(this.clock.nowMs);
    }
    if (this.store.dirty) this.store.commit();
  }

  pass(ms: number): void {
    const end = this.clock.nowMs + ms;
    for (;;) {
      const next = this.engine.nextWakeMs();
      if (next === null || next > end) break;
      this.clock.nowMs = Math.max(this.clock.nowMs, next);
      this.settle();
    }
    this.clock.nowMs = end;
    this.settle();
  }

  /** The process ends and starts again. */
  restart(): void {
    this.engine.flush();
    if (this.store.dirty) this.store.commit();
    this.engine = createEngine(this.account, this.store, this.outbox, this.clock);
  }
}

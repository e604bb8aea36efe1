import type { Clock } from '@rookery/core';
import type { JetStreamAccount } from '../../account.js';
import {
  readerKey,
  type AckInput,
  type ApiInput,
  type FlowControlInput,
  type InterestInput,
  type Outbox,
} from '../engine-io.js';
import { ConsumerSet, type StreamHandle, type StreamLookup } from '../parts.js';
import type { AccountQuota } from '../quota.js';
import type { ApiReplies } from '../api-replies.js';
import { statusHeaders } from '../headers.js';
import { parseAck, parsePlace } from './ack-message.js';
import type { Advisories } from '../advisories.js';
import { ConsumerConfig } from './consumer-config.js';
import { ConsumerApi } from './consumer-api.js';
import type { ConsumerDirectory } from './consumer-directory.js';
import { Consumer } from './consumer.js';
import { requestMessages } from './next-request.js';
import { Positions } from './positions.js';
import { status } from './pull-request.js';

/** What is kept of a consumer beside its positions. */
interface StoredConfig {
  readonly config: unknown;
  readonly deliverTo: string;
}

const notTheReaders = 'Bad Request - who may only read pulls from its own consumers';

const mayPull = ({ config }: Consumer, { reader }: ApiInput): boolean =>
  reader === undefined || config.metadata[readerKey] === reader;

/** What the account's parts have in common. */
interface SharedDependencies {
  readonly account: JetStreamAccount;
  readonly outbox: Outbox;
  readonly clock: Clock;
  readonly advisories: Advisories;
  readonly quota: AccountQuota;
}

/** All consumers of one account. */
export class Consumers extends ConsumerSet implements ConsumerDirectory {
  private readonly byStream = new Map<string, Map<string, Consumer>>();
  private readonly requests: ConsumerApi;
  /** Acknowledgements to these are confirmed with the transaction. */
  private readonly confirmed = new Set<Consumer>();

  readonly account: JetStreamAccount;
  readonly outbox: Outbox;
  readonly clock: Clock;
  readonly advisories: Advisories;
  readonly quota: AccountQuota;

  constructor(
    shared: SharedDependencies,
    readonly lookup: StreamLookup,
    readonly replies: ApiReplies,
  ) {
    super();
    this.account = shared.account;
    this.outbox = shared.outbox;
    this.clock = shared.clock;
    this.advisories = shared.advisories;
    this.quota = shared.quota;
    this.requests = new ConsumerApi(this);
  }

  load(stream: StreamHandle): void {
    for (const old of this.of(stream.name)) if (old.push) this.outbox.unwatch(old.push.audience);
    this.byStream.delete(stream.name);
    for (const stored of stream.store.consumers()) {
      const { config, deliverTo } = JSON.parse(stored.config) as StoredConfig;
      const positions = stored.state ? Positions.decode(stored.state) : null;
      this.keep(
        stream,
        ConsumerConfig.parse(config),
        deliverTo,
        stored.name,
        stored.createdNs,
        positions,
      );
    }
  }

  appended(stream: StreamHandle, seq: number, subject: string): void {
    for (const consumer of this.of(stream.name)) consumer.appended(seq, subject);
  }

  removed(stream: StreamHandle, seqs: readonly number[] | 'many'): void {
    for (const consumer of this.of(stream.name)) consumer.removed(seqs);
  }

  updated(stream: StreamHandle): void {
    for (const consumer of this.of(stream.name)) consumer.refilter();
  }

  deleted(stream: StreamHandle): void {
    for (const consumer of this.of(stream.name)) {
      consumer.end();
      this.advisories.consumer('delete', stream.name, consumer.name);
    }
    this.byStream.delete(stream.name);
  }

  needs(stream: StreamHandle, seq: number, subject: string): boolean {
    for (const consumer of this.of(stream.name)) {
      if (consumer.matches(subject) && consumer.acks.needs(seq)) return true;
    }
    return false;
  }

  count(stream: StreamHandle): number {
    return this.byStream.get(stream.name)?.size ?? 0;
  }

  api(request: ApiInput, tokens: readonly string[]): void {
    if (tokens[1] === 'MSG' && tokens[2] === 'NEXT' && tokens.length === 5) {
      const consumer = this.find(tokens[3]!, tokens[4]!);
      if (consumer && mayPull(consumer, request)) {
        this.next(consumer, request.reply, request.payload);
      } else if (request.reply !== '') {
        // On a server nobody listens where no consumer is.
        const refusal = consumer ? status(400, notTheReaders) : statusHeaders('503');
        this.answerEmpty(request.reply, refusal);
      }
      return;
    }
    this.requests.handle(request, tokens);
  }

  ack({ subject, reply, payload }: AckInput): void {
    const place = parsePlace(subject);
    const consumer = place && this.find(place.stream, place.consumer);
    if (!place || !consumer || consumer.config.ack_policy === 'none') {
      // On a server nobody listens there.
      if (reply !== '') this.answerEmpty(reply, statusHeaders('503'));
      return;
    }
    const message = parseAck(payload);
    consumer.acks.handle(place, message, this.clock.nowNs());
    // What is confirmed is on disk, as what is published.
    if (reply !== '') this.confirmed.add(consumer);
    if (message.kind === 'next') this.next(consumer, reply, message.request);
    else if (reply !== '') this.answerEmpty(reply);
  }

  flowControl({ subject }: FlowControlInput): void {
    const [stream, name] = subject.split('.');
    const consumer = this.find(stream ?? '', name ?? '');
    if (!consumer?.push) return;
    consumer.push.answered(subject);
    consumer.nudge();
  }

  interest({ subject, present }: InterestInput): void {
    const nowMs = this.clock.now();
    for (const consumer of this.all()) {
      if (consumer.push?.audience === subject) consumer.setInterest(present, nowMs);
      else if (!present) consumer.pull?.nobodyAt(subject);
    }
  }

  wake(nowMs: number): void {
    for (const consumer of this.all()) {
      if (consumer.nextWakeMs() > nowMs) continue;
      if (consumer.wake(nowMs)) this.remove(consumer);
    }
  }

  nextWakeMs(): number | null {
    let next = Infinity;
    for (const consumer of this.all()) next = Math.min(next, consumer.nextWakeMs());
    return next === Infinity ? null : next;
  }

  get idle(): boolean {
    for (const consumer of this.all()) if (!consumer.idle) return false;
    return true;
  }

  beforeCommit(): boolean {
    const { size } = this.confirmed;
    for (const consumer of this.confirmed) {
      // It may have been deleted meanwhile, or read anew after a failure.
      if (this.find(consumer.stream.name, consumer.name) === consumer) consumer.saveIfChanged();
    }
    this.confirmed.clear();
    return size > 0;
  }

  endPulls(): void {
    for (const consumer of this.all()) consumer.pull?.endAll(409, 'Server Shutdown');
  }

  flush(): void {
    for (const consumer of this.all()) consumer.saveIfChanged();
  }

  // For the API.

  find(stream: string, name: string): Consumer | undefined {
    return this.byStream.get(stream)?.get(name);
  }

  of(stream: string): Consumer[] {
    return [...(this.byStream.get(stream)?.values() ?? [])];
  }

  create(stream: StreamHandle, config: ConsumerConfig, deliverTo: string, name: string): Consumer {
    const createdNs = this.clock.nowNs();
    const consumer = this.keep(stream, config, deliverTo, name, createdNs, null);
    this.store(consumer);
    this.advisories.consumer('create', stream.name, name);
    return consumer;
  }

  store(consumer: Consumer): void {
    const stored: StoredConfig = { config: consumer.config, deliverTo: consumer.deliverTo };
    const { store } = consumer.stream;
    store.saveConsumer(consumer.name, JSON.stringify(stored), consumer.createdNs);
    consumer.save();
  }

  remove(consumer: Consumer): void {
    const { stream } = consumer;
    consumer.end();
    const group = this.byStream.get(stream.name);
    group?.delete(consumer.name);
    if (group?.size === 0) this.byStream.delete(stream.name);
    stream.store.deleteConsumer(consumer.name);
    this.advisories.consumer('delete', stream.name, consumer.name);
    // What only this one still needed.
    if (stream.config.retention === 'interest') {
      const { firstSeq, lastSeq } = stream.store.state;
      const from = Math.max(firstSeq, consumer.positions.floor.stream + 1);
      for (let seq = from; seq <= lastSeq; seq += 1) stream.acknowledged(seq);
    }
  }

  private keep(
    stream: StreamHandle,
    config: ConsumerConfig,
    deliverTo: string,
    name: string,
    createdNs: bigint,
    positions: Positions | null,
  ): Consumer {
    let group = this.byStream.get(stream.name);
    if (!group) this.byStream.set(stream.name, (group = new Map<string, Consumer>()));
    const { account, outbox, advisories, clock } = this;
    const consumer = new Consumer({
      account,
      stream,
      outbox,
      advisories,
      name,
      createdNs,
      config,
      deliverTo,
      positions,
      clock,
    });
    group.set(name, consumer);
    return consumer;
  }

  private next(consumer: Consumer, reply: string, payload: Buffer): void {
    if (reply === '') return;
    const refusal = requestMessages(consumer, reply, payload, this.clock.now());
    if (refusal) this.answerEmpty(reply, refusal);
  }

  private answerEmpty(reply: string, headers: Buffer | null = null): void {
    this.outbox.send({
      to: reply,
      shown: '',
      reply: '',
      headers,
      payload: Buffer.alloc(0),
    });
  }

  private *all(): IterableIterator<Consumer> {
    for (const group of this.byStream.values()) yield* [...group.values()];
  }
}

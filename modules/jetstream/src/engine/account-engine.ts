import type { Clock } from '@rookery/core';
import type { JetStreamAccount } from '../account.js';
import type { AccountStore } from './account-store.js';
import { JetStreamApiError } from './api-error.js';
import { apiLevel } from './api-level.js';
import { ApiReplies } from './api-replies.js';
import { routeOf, type ApiDependencies } from './api-routes.js';
import { Advisories } from './advisories.js';
import { Consumers } from './consumers/consumers.js';
import type { ApiInput, EngineInput, Outbox } from './engine-io.js';
import { Engine } from './engine.js';
import { statusHeaders } from './headers.js';
import { jsErrors } from './js-errors.js';
import { AccountQuota } from './quota.js';
import type { ConsumerSet } from './parts.js';
import { DirectGet } from './streams/direct-get.js';
import { earlier, Expiry } from './streams/expiry.js';
import { MessageApi } from './streams/message-api.js';
import { Publisher } from './streams/publisher.js';
import { SnapshotApi } from './streams/snapshot-api.js';
import { checkLevel, StreamApi } from './streams/stream-api.js';
import { StreamSet } from './streams/stream-set.js';

/** After a transaction failed (disk full …) what is due is not tried again before. */
const retryMs = 1_000;

/** Opens an account's JetStream over its store; says at once what its streams listen to. */
export const createEngine = (
  account: JetStreamAccount,
  store: AccountStore,
  outbox: Outbox,
  clock: Clock,
): Engine => new AccountEngine(account, store, outbox, clock);

class AccountEngine extends Engine {
  private readonly streams: StreamSet;
  private notBeforeMs = 0;
  private readonly consumers: ConsumerSet;
  private readonly publisher: Publisher;
  private readonly expiry: Expiry;
  private readonly direct: DirectGet;
  private readonly replies: ApiReplies;
  private readonly quota: AccountQuota;
  private readonly api: ApiDependencies;

  constructor(
    account: JetStreamAccount,
    store: AccountStore,
    private readonly outbox: Outbox,
    private readonly clock: Clock,
  ) {
    super();
    const nowNs = (): bigint => this.nowNs();
    const advisories = new Advisories(account, outbox, nowNs);
    this.streams = new StreamSet(store, outbox, nowNs, advisories);
    this.replies = new ApiReplies(outbox);
    this.quota = new AccountQuota(account.quota ?? {}, () => this.streams.all());
    const { quota } = this;
    const shared = { account, outbox, clock, advisories, quota };
    this.consumers = new Consumers(shared, this.streams, this.replies);
    this.publisher = new Publisher(this.consumers, outbox, nowNs, quota);
    this.expiry = new Expiry(this.publisher);
    this.direct = new DirectGet(outbox);
    this.api = {
      streams: new StreamApi(this.streams, this.consumers, this.replies, quota, nowNs, (stream) =>
        this.expiry.wake(stream, clock.now()),
      ),
      messages: new MessageApi(this.streams, this.replies),
      snapshots: new SnapshotApi(this.streams),
      info: (request) => this.info(request),
    };
    this.streams.load(this.consumers);
  }

  handle(input: EngineInput): void {
    switch (input.kind) {
      case 'publish':
        return this.publisher.publish(this.streams.get(input.stream), input);
      case 'api':
        return this.request(input);
      case 'ack':
        return this.consumers.ack(input);
      case 'flow-control':
        return this.consumers.flowControl(input);
      case 'interest':
        return this.consumers.interest(input);
    }
  }

  wake(nowMs: number): void {
    if (nowMs >= this.notBeforeMs) {
      for (const stream of [...this.streams.all()]) this.expiry.wake(stream, nowMs);
    }
    this.consumers.wake(nowMs);
  }

  nextWakeMs(): number | null {
    let next = this.idsEndMs();
    for (const stream of this.streams.all()) next = earlier(next, this.expiry.nextWakeMs(stream));
    if (next !== null) next = Math.max(next, this.notBeforeMs);
    return earlier(next, this.consumers.nextWakeMs());
  }

  reload(): void {
    this.notBeforeMs = this.clock.now() + retryMs;
    this.streams.load(this.consumers);
  }

  refuse(input: EngineInput, error: Error): void {
    const refusal = isNoSpace(error)
      ? jsErrors.insufficientResources()
      : jsErrors.storeFailed('storage failed');
    if (input.kind === 'publish') {
      const stream = this.streams.get(input.stream);
      if (stream?.config.no_ack !== true) this.publisher.refuse(input.stream, input.reply, refusal);
    }
    if (input.kind !== 'api' || input.reply === '') return;
    // Readers wait for a status, not for JSON.
    const status = /^(DIRECT\.GET|CONSUMER\.MSG\.NEXT)\./.exec(input.subject)?.[1];
    if (status) return this.status(input.reply, status === 'DIRECT.GET' ? '500 Error' : retryPull);
    this.replies.error(input, routeOf(input.subject).route.type, refusal);
  }

  beforeCommit(): boolean {
    return this.consumers.beforeCommit();
  }

  endPulls(): void {
    this.consumers.endPulls();
  }

  flush(): void {
    this.consumers.flush();
  }

  get idle(): boolean {
    return this.consumers.idle && this.idsEndMs() === null;
  }

  /**
   * When the last message's id is forgotten. Ids of messages that are gone are in no header: they
   * would be lost with the memory, so the engine is not idle until then.
   */
  private idsEndMs(): number | null {
    let end: number | null = null;
    for (const stream of this.streams.all()) {
      end = Math.max(end ?? 0, stream.ids.endMs(this.nowNs()) ?? 0) || null;
    }
    return end;
  }

  private request(input: ApiInput): void {
    if (input.subject.startsWith('DIRECT.GET.')) return this.directGet(input);
    if (input.subject.startsWith('CONSUMER.')) {
      return this.consumers.api(input, input.subject.split('.'));
    }
    const { route, name } = routeOf(input.subject);
    try {
      route.run(this.api, input, name);
    } catch (error) {
      if (!(error instanceof JetStreamApiError)) throw error;
      this.replies.error(input, route.type, error);
    }
  }

  private directGet(input: ApiInput): void {
    const [name, ...key] = input.subject.slice('DIRECT.GET.'.length).split('.');
    const stream = this.streams.get(name!);
    // Nobody listens there on a server.
    if (!stream?.config.allow_direct) return this.status(input.reply, '503');
    try {
      checkLevel(input);
    } catch {
      return this.status(input.reply, '412 Required Api Level');
    }
    this.direct.handle(stream, input, key.length > 0 ? key.join('.') : null);
  }

  private nowNs(): bigint {
    return this.clock.nowNs();
  }

  private info(request: ApiInput): void {
    checkLevel(request);
    const usage = { memory: 0, storage: 0, reserved_memory: 0, reserved_storage: 0 };
    let [streams, consumers] = [0, 0];
    for (const stream of this.streams.all()) {
      const { storage, max_bytes: reserved } = stream.config;
      const inMemory = storage === 'memory';
      usage[inMemory ? 'memory' : 'storage'] += stream.store.state.bytes;
      usage[inMemory ? 'reserved_memory' : 'reserved_storage'] += Math.max(0, reserved);
      streams += 1;
      consumers += this.consumers.count(stream);
    }
    const { total, errors } = this.replies;
    this.replies.ok(request, 'account_info_response', {
      ...usage,
      streams,
      consumers,
      limits: this.quota.shown(),
      api: { level: apiLevel, total, errors },
    });
  }

  private status(to: string, status: string): void {
    if (to === '') return;
    const payload = Buffer.alloc(0);
    this.outbox.send({ to, shown: '', reply: '', headers: statusHeaders(status), payload });
  }
}

/** Clients ask again after it. */
const retryPull = '409 Leadership Change';

function isNoSpace(error: Error): boolean {
  const { code, cause } = error as { code?: unknown; cause?: unknown };
  if (typeof code === 'string' && /FULL|ENOSPC|EDQUOT|QUOTA/.test(code)) return true;
  return cause instanceof Error && isNoSpace(cause);
}

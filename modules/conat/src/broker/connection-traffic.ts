import type { ConnectOptions } from '../auth/authenticator.js';
import type { ConatIdentity } from '../auth/identity.js';
import type { FrameWriter } from './frame-writer.js';
import { noRespondersMessage, writeMessage } from './message-writer.js';
import type { PublishOp } from './parser.js';
import { PermissionCheck, ReplyGrants } from './permission-check.js';
import type { BrokerClient, ConnectionHost, Subscription } from './ports.js';
import { protocolTexts } from './protocol-texts.js';
import { isLiteral, parseFilter } from './subjects.js';

/** The connection as its traffic sees it. */
export interface TrafficConnection extends BrokerClient {
  readonly options: ConnectOptions;
  readonly writer: FrameWriter;
  /** Says `+OK` to a verbose client. */
  ok(): void;
  /** Says `-ERR`; the connection goes on. */
  error(text: string): void;
  /** Something was written: it goes out at the end of the tick. */
  touch(): void;
}

/** What one admitted connection says and hears: its subscriptions, under its permissions. */
export class ConnectionTraffic {
  private readonly subscriptions = new Map<string, Subscription>();
  private readonly permissions: PermissionCheck;
  private readonly grants: ReplyGrants | null;

  constructor(
    private readonly broker: ConnectionHost,
    private readonly connection: TrafficConnection,
    identity: ConatIdentity,
    /** Subscriptions of the time before the permissions changed; see {@link ConnectionTraffic.recheck}. */
    before?: ConnectionTraffic,
  ) {
    const { limits } = broker;
    this.permissions = new PermissionCheck(
      identity.name,
      identity.permissions,
      limits.permissionCacheMax,
    );
    const { responses } = this.permissions;
    this.grants = responses
      ? new ReplyGrants(responses.countMax, responses.ttlMs, limits.replyGrantsMax)
      : null;
    if (before) this.subscriptions = before.subscriptions;
  }

  get subscriptionCount(): number {
    return this.subscriptions.size;
  }

  publish(op: PublishOp): void {
    const { permissions, connection } = this;
    if (connection.options.pedantic && !isLiteral(op.subject)) {
      connection.error(protocolTexts.invalidPublishSubject);
      return;
    }
    if (
      !permissions.mayPublish(op.subject) &&
      !this.grants?.take(op.subject, this.broker.nowMs())
    ) {
      this.broker.metrics.violations += 1;
      connection.error(protocolTexts.publishViolation(op.subject));
      return;
    }
    if (op.reply !== '' && !permissions.mayAskReplyTo(op.reply)) {
      this.broker.metrics.violations += 1;
      connection.error(protocolTexts.replyViolation(op.reply));
      return;
    }
    connection.ok();
    this.broker.route(connection, op);
  }

  subscribe(subject: string, queue: string, sid: string): void {
    const { connection } = this;
    const { limits } = this.broker;
    const tokens = parseFilter(subject, limits.subjectTokensMax);
    if (!tokens) {
      connection.error(protocolTexts.invalidSubject);
      return;
    }
    if (this.subscriptions.has(sid)) {
      connection.ok(); // as nats-server: the subscription that has the sid goes on
      return;
    }
    if (this.subscriptions.size >= limits.subscriptionsPerConnectionMax) {
      connection.error(protocolTexts.maximumSubscriptions);
      return;
    }
    const verdict = this.permissions.subscribeVerdict(subject, tokens);
    if (verdict === 'none') {
      this.broker.metrics.violations += 1;
      connection.error(protocolTexts.subscribeViolation(subject, queue));
      return;
    }
    const subscription: Subscription = {
      client: connection,
      sid,
      subject,
      tokens,
      queue,
      filtered: verdict === 'filtered',
      delivered: 0,
      max: 0,
      lastSubject: '',
      lastHead: null,
    };
    this.subscriptions.set(sid, subscription);
    this.broker.subscribed(subscription);
    connection.ok();
  }

  unsubscribe(sid: string, max: number): void {
    const subscription = this.subscriptions.get(sid);
    if (subscription) {
      if (max > subscription.delivered) subscription.max = max;
      else this.drop(subscription);
    }
    this.connection.ok();
  }

  deliver(subscription: Subscription, op: PublishOp, from: BrokerClient): boolean {
    const { connection } = this;
    if (from === connection && !connection.options.echo) return false;
    if (subscription.filtered && !this.permissions.mayHear(op.subject)) return false;
    subscription.delivered += 1;
    if (this.grants && op.reply !== '') this.grants.add(op.reply, this.broker.nowMs());
    writeMessage(connection.writer, subscription, op, connection.options.headers);
    connection.touch();
    this.dropWhenDone(subscription);
    return true;
  }

  noResponders(op: PublishOp): void {
    const { connection } = this;
    if (!connection.options.no_responders || op.reply === '') return;
    const subscription = this.broker.subscriptionFor(connection, op.reply);
    if (!subscription) return;
    connection.write(noRespondersMessage(op.reply, subscription.sid, op.subject));
    subscription.delivered += 1;
    this.dropWhenDone(subscription);
  }

  /** Ends the subscriptions that these permissions do not allow, and says so for each. */
  recheck(): void {
    for (const subscription of [...this.subscriptions.values()]) {
      const { subject, tokens, queue, sid } = subscription;
      const verdict = this.permissions.subscribeVerdict(subject, tokens);
      subscription.filtered = verdict === 'filtered';
      if (verdict !== 'none') continue;
      this.drop(subscription);
      this.connection.error(protocolTexts.subscribeRevoked(subject, queue, sid));
    }
  }

  end(): void {
    for (const subscription of this.subscriptions.values()) this.broker.unsubscribed(subscription);
    this.subscriptions.clear();
  }

  private dropWhenDone(subscription: Subscription): void {
    if (subscription.max > 0 && subscription.delivered >= subscription.max) this.drop(subscription);
  }

  private drop(subscription: Subscription): void {
    if (!this.subscriptions.delete(subscription.sid)) return;
    this.broker.unsubscribed(subscription);
  }
}

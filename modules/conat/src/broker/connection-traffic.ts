import type { ConnectOptions } from '../auth/authenticator.js';
import type { ConatIdentity } from '../auth/identity.js';
import { resolveKvAlias } from '../edge/kv-alias.js';
import { ReplyAliases } from '../edge/reply-aliases.js';
import { SubjectMapping } from '../edge/subject-space.js';
import type { FrameWriter } from './frame-writer.js';
import { noRespondersMessage, writeMessage } from './message-writer.js';
import {
  asksForTrace,
  isTraceDestination,
  traceRequest,
  type MessageTrace,
} from './message-trace.js';
import type { PublishOp } from './parser.js';
import { PermissionCheck, ReplyGrants } from './permission-check.js';
import type { BrokerClient, ConnectionHost, Publisher, Subscription, UnheardOp } from './ports.js';
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
  /** Subscriptions whose maximum is not settled yet, each with the latest to be said. */
  private readonly bounding = new Map<Subscription, object>();
  private readonly subscriptions = new Map<string, Subscription>();
  private readonly permissions: PermissionCheck;
  private readonly grants: ReplyGrants | null;
  /** Where all spaces lie, with the dot behind it. */
  private readonly spaces: string;
  /** Null for most: they use the broker's subjects as they are. */
  private readonly space: SubjectMapping | null;

  constructor(
    private readonly broker: ConnectionHost,
    private readonly connection: TrafficConnection,
    identity: ConatIdentity,
    /** Subscriptions of the time before the permissions changed; see {@link ConnectionTraffic.recheck}. */
    before?: ConnectionTraffic,
  ) {
    const { limits, spaceRoot } = broker;
    this.spaces = `${spaceRoot}.`;
    this.permissions = new PermissionCheck(
      identity.name,
      identity.permissions,
      limits.permissionCacheMax,
    );
    const { responses } = this.permissions;
    this.grants = responses
      ? new ReplyGrants(responses.countMax, responses.ttlMs, limits.replyGrantsMax)
      : null;
    this.space = before?.space ?? spaceOf(identity, this.permissions, broker);
    if (before) this.subscriptions = before.subscriptions;
  }

  /** What it listens on, in its own words. */
  subjects(): string[] {
    return [...this.subscriptions.values()].map(({ part, subject }) => part?.subject ?? subject);
  }

  get subscriptionCount(): number {
    return this.subscriptions.size;
  }

  publish(op: PublishOp): void {
    const { permissions, connection, grants } = this;
    if (connection.options.pedantic && !isLiteral(op.subject)) {
      // As nats-server: it complains, and then does what was asked.
      connection.error(protocolTexts.invalidPublishSubject);
    }
    const { subject, reply } = op;
    this.translate(op);
    const trace = op.withHeaders && asksForTrace(op) ? this.traceOf(op) : null;
    if (trace === 'not delivered') return;
    if (!permissions.mayPublish(op.subject) && !grants?.take(op.subject, this.broker.nowMs())) {
      this.refuse(protocolTexts.publishViolation(subject), trace);
      return;
    }
    // Who may answer may also let somebody else answer.
    if (
      reply !== '' &&
      !permissions.mayAskReplyTo(op.reply) &&
      !grants?.has(op.reply, this.broker.nowMs())
    ) {
      this.refuse(protocolTexts.replyViolation(reply), trace);
      return;
    }
    connection.ok();
    if (trace) this.broker.routeTraced(connection, op, trace);
    else this.broker.route(connection, op);
  }

  private refuse(text: string, trace: MessageTrace | null): void {
    this.broker.metrics.violations += 1;
    this.connection.error(text);
    if (!trace) return;
    trace.refused(text);
    this.broker.sendTrace(trace);
  }

  /** As nats-server: what cannot be traced is delivered, unless it is there for its trace alone. */
  private traceOf(op: PublishOp): MessageTrace | 'not delivered' | null {
    const request = traceRequest(op);
    if (!request) return null;
    if (!isTraceDestination(request)) return request.only ? 'not delivered' : null;
    const { destination } = request;
    const to = this.space
      ? this.space.toBroker(destination)
      : resolveKvAlias(destination, this.spaces);
    if (this.permissions.mayPublish(to)) return this.broker.trace(this.connection, op, request, to);
    this.refuse(protocolTexts.publishViolation(destination), null);
    return 'not delivered';
  }

  subscribe(subject: string, queue: string, sid: string): void {
    const { connection } = this;
    const { limits } = this.broker;
    if (this.subscriptions.has(sid)) {
      connection.ok(); // as nats-server: the subscription that has the sid goes on
      return;
    }
    const tokens = parseFilter(subject, limits.subjectTokensMax);
    if (!tokens) {
      connection.error(protocolTexts.invalidSubject);
      return;
    }
    if (this.subscriptions.size >= limits.subscriptionsPerConnectionMax) {
      connection.error(protocolTexts.maximumSubscriptions);
      return;
    }
    const parts = this.partsOf(subject, tokens, queue, sid);
    if (parts.length === 0) {
      this.broker.metrics.violations += 1;
      connection.error(protocolTexts.subscribeViolation(subject, queue));
      return;
    }
    this.subscriptions.set(sid, parts[0]!);
    for (const part of parts) this.broker.subscribed(part);
    connection.ok();
  }

  unsubscribe(sid: string, max: number): void {
    const subscription = this.subscriptions.get(sid);
    if (subscription) {
      if (max > subscription.delivered) this.bound(subscription, max);
      else this.drop(subscription, true);
    }
    this.connection.ok();
  }

  mayHear(subscription: Subscription, subject: string): boolean {
    return !subscription.filtered || this.permissions.mayHear(subject);
  }

  deliver(subscription: Subscription, op: PublishOp, from: Publisher): boolean {
    const { connection, space } = this;
    if (from === connection && !connection.options.echo) return false;
    if (subscription.filtered && !this.permissions.mayHear(op.subject)) return false;
    const nowMs = this.grants || space ? this.broker.nowMs() : 0;
    // Acknowledgements are allowed, or not, by their own subjects.
    if (this.grants && op.reply !== '' && !op.reply.startsWith(ackRoot)) {
      if (this.permissions.mayAnswer(op.subject)) this.grants.add(op.reply, nowMs);
    }
    const { headers } = connection.options;
    writeMessage(connection.writer, subscription, op, headers, space, nowMs);
    connection.touch();
    this.count(subscription);
    return true;
  }

  noResponders(op: UnheardOp): void {
    const { connection, space } = this;
    if (!connection.options.no_responders || op.reply === '') return;
    const subscription = this.broker.subscriptionFor(connection, op.reply);
    if (!subscription) return;
    const reply = space ? space.toClient(op.reply) : op.reply;
    // Not counted towards the maximum of an UNSUB, as in nats-server.
    connection.write(noRespondersMessage(reply, subscription.sid, op.said || op.subject));
  }

  /** Ends the subscriptions that these permissions do not allow, and says so for each. */
  recheck(): void {
    for (const subscription of [...this.subscriptions.values()]) {
      const { part, subject, queue, sid } = subscription;
      let allowed = true;
      for (const each of part?.all ?? [subscription]) {
        const verdict = this.permissions.subscribeVerdict(each.subject, each.tokens, queue);
        each.filtered = verdict === 'filtered';
        if (verdict === 'none') allowed = false;
      }
      if (allowed) continue;
      this.drop(subscription);
      this.connection.error(protocolTexts.subscribeRevoked(part?.subject ?? subject, queue, sid));
    }
  }

  end(): void {
    for (const subscription of this.subscriptions.values()) this.leave(subscription);
    this.subscriptions.clear();
  }

  /** From the client's subjects to the broker's. */
  private translate(op: PublishOp): void {
    const { space } = this;
    const { subject, reply } = op;
    if (!space) {
      op.subject = resolveKvAlias(subject, this.spaces);
      if (op.subject !== subject) op.said = subject;
      return;
    }
    op.said = subject;
    op.subject = space.toBroker(subject);
    if (reply === '') return;
    op.reply = space.toBroker(reply);
    // What lies in the buffer is not what others may see.
    if (op.reply !== reply) op.tailStart = op.sizesStart;
  }

  /** The subscriptions on the broker that make up one of the client; none when it may not. */
  private partsOf(
    subject: string,
    tokens: readonly string[],
    queue: string,
    sid: string,
  ): readonly Subscription[] {
    const filters = this.space
      ? this.space.filters(tokens)
      : [resolveKvAlias(subject, this.spaces)];
    const all: Subscription[] = [];
    const part = this.space ? { subject, all } : null;
    for (const filter of filters) {
      const there = filter === subject ? tokens : filter.split('.');
      const verdict = this.permissions.subscribeVerdict(filter, there, queue);
      if (verdict === 'none') continue;
      all.push({
        client: this.connection,
        sid,
        subject: filter,
        tokens: there,
        queue,
        filtered: verdict === 'filtered',
        delivered: 0,
        max: 0,
        lastSubject: '',
        lastHead: null,
        part,
      });
    }
    return all;
  }

  /** One more delivery; a subscription that asked for no more ends. */
  private count(heard: Subscription): void {
    const subscription = heard.part ? heard.part.all[0]! : heard;
    subscription.delivered += 1;
    if (subscription.max > 0 && !this.bounding.has(subscription)) this.endIfEnough(subscription);
  }

  /**
   * What a fabric had delivered before it heard of the maximum may still be on its way, and counts:
   * a server that delivers at once would have sent it all.
   */
  private bound(subscription: Subscription, max: number): void {
    for (const each of subscription.part?.all ?? [subscription]) {
      each.max = max;
      this.broker.bounded(each);
    }
    // Of those the fabric does not know what passes, and so not the maximum.
    if (subscription.filtered) return;
    const mark = {};
    this.bounding.set(subscription, mark);
    this.broker.settled(this.connection, () => {
      if (this.bounding.get(subscription) !== mark) return;
      this.bounding.delete(subscription);
      if (this.subscriptions.get(subscription.sid) === subscription) this.endIfEnough(subscription);
    });
  }

  private endIfEnough(subscription: Subscription): void {
    if (subscription.delivered >= subscription.max) this.drop(subscription);
  }

  private drop(subscription: Subscription, linger = false): void {
    if (this.subscriptions.delete(subscription.sid)) this.leave(subscription, linger);
  }

  private leave(subscription: Subscription, linger = false): void {
    for (const each of subscription.part?.all ?? [subscription]) {
      this.broker.unsubscribed(each, linger);
    }
  }
}

const ackRoot = '$JS.ACK.';

function spaceOf(
  identity: ConatIdentity,
  { responses }: PermissionCheck,
  { limits, spaceRoot: root }: ConnectionHost,
): SubjectMapping | null {
  const { rootedIn: id, name } = identity;
  if (id === undefined) return null;
  const aliases = new ReplyAliases(responses?.ttlMs ?? 0, limits.replyGrantsMax);
  return new SubjectMapping({ root, id }, name, limits.permissionCacheMax, aliases);
}

import { randomBytes } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import type { Authenticator, ConnectRequest } from '../auth/authenticator.js';
import type { ConatIdentity, ConatPermissions } from '../auth/identity.js';
import { spaceRootDefault } from '../edge/space.js';
import type { Fabric, FabricHost } from '../fabric/fabric.js';
import { InProcessFabric } from '../fabric/in-process.fabric.js';
import { newBrokerMetrics, type BrokerMetrics, type TransportKind } from './broker-metrics.js';
import { ConnectionRegistry } from './connection-registry.js';
import type { IdentityRates } from './token-bucket.js';
import { ClientConnection } from './connection.js';
import { InterestWatches, type InterestListener } from './interest.js';
import { InternalClient, type InternalHost } from './internal-client.js';
import { BrokerLimits, type BrokerLimitsInput } from './limits.js';
import { MessageTrace, type TraceRequest } from './message-trace.js';
import type { PublishOp } from './parser.js';
import type {
  BrokerClient,
  BrokerFacts,
  Connection,
  ConnectionHost,
  ConnectionView,
  Publisher,
  Subscription,
  Transport,
} from './ports.js';
import { protocolTexts, type CloseReason } from './protocol-texts.js';
import { partsOfAudience, toBinary } from './subjects.js';
import { Sublist, type Match } from './sublist.js';
import { deliverTraced } from './traced-delivery.js';
import { systemTime } from './system-time.js';

/** Clients choose features by the version, so it names the nats-server that we are like. */
const likeNatsServer = '2.11.0';
const identifyAttemptsMax = 3;
/** Longer than a transport gives a socket to take its last bytes. */
const sendDeadlineMs = 6_000;
/** What services say before connections are closed is not waited for any longer. */
const lastWordsMs = 2_000;

export interface BrokerOptions {
  readonly authenticator: Authenticator;
  readonly limits?: BrokerLimitsInput;
  /**
   * The first token of where the spaces of rooted connections lie: that of `id` is `<root>.<id>.>`.
   * Default `space`.
   */
  readonly spaceRoot?: string;
  /** Shown to clients in INFO. */
  readonly name?: string;
  /** Told when an authenticator throws; the connection is refused. */
  readonly onError?: (error: unknown) => void;
  /** What joins it with other brokers; whoever made it starts and closes it. Default: nothing. */
  readonly fabric?: Fabric;
}

/** A broker's own space in nats-server's words. */
export const globalAccount = '$G';

/** What nats-server was built with; nats-core of Python wants one to be named. */
const runtime = `node${process.versions.node}`;

export type RevocationReason = 'revoked' | 'expired';

/**
 * A NATS broker for one process. Knows no sockets: a gateway makes a {@link Transport} of whatever
 * bytes come through, and {@link Broker.accept} gives the connection to feed.
 */
export class Broker implements ConnectionHost, InternalHost, FabricHost {
  readonly limits: BrokerLimits;
  readonly spaceRoot: string;
  /** Of all accounts together. */
  readonly metrics: BrokerMetrics;
  readonly fabric: Fabric;
  private readonly serverId = `N${base32(randomBytes(55))}`;
  private readonly sublist: Sublist<Subscription>;
  private readonly registry: ConnectionRegistry;
  private readonly watches = new InterestWatches((subject) => this.interest(subject));
  private readonly tracer = new InternalClient(this, 'trace');
  private traces = 0;
  private unflushed: BrokerClient[] = [];
  private lastId = 0;
  private announced: Readonly<Record<string, unknown>> = {};
  private draining: Promise<void> | null = null;
  private readonly accounts = new Map<string, Broker>();
  private readonly closers: (() => Promise<void>)[] = [];
  private clockMs = 0;
  /** Identities revoked or changed while somebody was being authenticated. */
  private readonly changes = new Map<string, number>();
  private changeCount = 0;
  private identifying = 0;

  /** @param server whose account this is, see {@link Broker.addAccount} */
  constructor(
    private readonly options: BrokerOptions,
    private readonly server?: Broker,
  ) {
    this.limits = BrokerLimits.parse(options.limits ?? {});
    this.metrics = server?.metrics ?? newBrokerMetrics();
    this.spaceRoot = options.spaceRoot ?? spaceRootDefault;
    this.registry = new ConnectionRegistry(this.limits);
    this.sublist = new Sublist(this.limits.matchCacheMax);
    this.fabric = options.fabric ?? new InProcessFabric();
    this.fabric.join(this);
  }

  get connectionCount(): number {
    return this.registry.size;
  }

  /** In all accounts. */
  get subscriptionCount(): number {
    return this.spaces().reduce((sum, { sublist }) => sum + sublist.size, 0);
  }

  /**
   * An account as nats-server's: a space of subjects of its own, for the identities that name it.
   * Its clients come in through this broker, and count there, too.
   * @param limits those of an account: connections, and of each subscriptions and payload
   */
  addAccount(name: string, limits: BrokerLimitsInput): Broker {
    if (this.fabric.status) throw new TypeError('a broker with a fabric has no accounts');
    const all = { ...this.options.limits, ...limits };
    const account = new Broker({ ...this.options, limits: all }, this);
    this.accounts.set(name, account);
    return account;
  }

  /** The space of an account; undefined when there is none of this name. */
  space(account: string): Broker | undefined {
    return account === globalAccount ? this : this.accounts.get(account);
  }

  private spaces(): Broker[] {
    return [this, ...this.accounts.values()];
  }

  private ofIdentity(name: string): BrokerClient[] {
    return this.spaces().flatMap(({ registry }) => registry.ofIdentity(name));
  }

  /** Takes a new client and greets it with INFO. */
  accept(transport: Transport): Connection {
    this.lastId += 1;
    const connection = new ClientConnection(this, transport, this.lastId);
    const fits = this.registry.add(connection);
    this.metrics.connectionsOpened[transport.kind] += 1;
    connection.write(this.info(connection, false));
    if (!fits) {
      connection.refuse(protocolTexts.maximumConnections, 'maximum connections exceeded');
    } else if (this.draining) {
      connection.refuse(null, 'server shutdown');
    }
    return connection;
  }

  /** Cuts an identity's connections, or some of them, and tells why. @returns how many there were */
  disconnect(
    identityName: string,
    reason: RevocationReason = 'revoked',
    which: (identity: ConatIdentity) => boolean = () => true,
  ): number {
    this.changed(identityName);
    const isMeant = ({ identity }: BrokerClient) => !identity || which(identity);
    const connections = this.ofIdentity(identityName).filter(isMeant);
    const text = reason === 'revoked' ? 'authenticationRevoked' : 'authenticationExpired';
    const why = reason === 'revoked' ? 'revoked' : 'authentication expired';
    for (const connection of connections) connection.refuse(protocolTexts[text], why);
    return connections.length;
  }

  /**
   * Gives an identity other permissions at once: subscriptions that it may no longer have end,
   * each with an error that names it. A function is asked for each connection; null cuts it.
   * @returns how many connections it has
   */
  updatePermissions(
    identityName: string,
    permissions: ConatPermissions | ((identity: ConatIdentity) => ConatPermissions | null),
  ): number {
    this.changed(identityName);
    const connections = this.ofIdentity(identityName);
    for (const connection of connections) {
      const { identity } = connection;
      const own =
        typeof permissions === 'function' ? identity && permissions(identity) : permissions;
      if (own) connection.setPermissions(own);
      else if (identity) connection.refuse(protocolTexts.authenticationRevoked, 'revoked');
    }
    return connections.length;
  }

  /** A client inside this process, for services of the broker itself; it has every right. */
  internal(name: string): InternalClient {
    return new InternalClient(this, name);
  }

  /** Names of the identities that are connected now. */
  identityNames(): string[] {
    return this.spaces().flatMap(({ registry }) => registry.identityNames());
  }

  /** Who each connection is that has said so. */
  identities(): ConatIdentity[] {
    return this.registry.all().flatMap(({ identity }) => identity ?? []);
  }

  /** All connections as they are now. */
  connections(): ConnectionView[] {
    return this.registry.all().map((connection) => connection.view());
  }

  /** What INFO says to everybody. */
  facts(): BrokerFacts {
    const { authenticator, name = 'conat' } = this.options;
    return {
      id: this.serverId,
      name,
      version: likeNatsServer,
      runtime,
      authRequired: authenticator.required,
      draining: this.draining !== null,
    };
  }

  /** Adds to what INFO says, as `{ api_lvl: 2 }`; clients that are connected are told at once. */
  announce(fields: Readonly<Record<string, unknown>>): void {
    this.announced = { ...this.announced, ...fields };
    this.tellInfo();
  }

  /** Bytes kept for all connections together: input that is not whole, output that was not taken. */
  keptBytes(): number {
    return this.registry.all().reduce((sum, { keptBytes }) => sum + keptBytes, 0);
  }

  /** How many connections came over what. */
  connectionsByTransport(): Record<TransportKind, number> {
    const counts: Record<TransportKind, number> = { websocket: 0, tcp: 0, memory: 0 };
    for (const { transport } of this.registry.all()) counts[transport.kind] += 1;
    return counts;
  }

  /**
   * Lame duck: takes nobody new, tells clients (INFO with `ldm`), gives them until the deadline to
   * leave by themselves, then closes them and waits until their sockets took everything that
   * waited for them (bounded; a socket that takes nothing is cut). As nats-server it says nothing
   * on closing: clients take any `-ERR` for the end and would not come back.
   */
  drain(deadlineMs = 2_000): Promise<void> {
    return (this.draining ??= this.leave(deadlineMs));
  }

  /** What a service has to say to clients when {@link drain} is about to close them; bounded. */
  beforeClosing(say: () => Promise<void>): void {
    this.closers.push(say);
  }

  private async leave(deadlineMs: number): Promise<void> {
    // `draining` is set when this goes on, so that INFO says so.
    await Promise.resolve();
    this.tellInfo();
    await this.registry.whenEmpty(deadlineMs);
    if (this.registry.size > 0) {
      const said = Promise.allSettled(this.closers.map((say) => say()));
      await Promise.race([said, delay(lastWordsMs, undefined, { ref: false })]);
    }
    for (const connection of this.registry.all()) connection.refuse(null, 'server shutdown');
    await this.registry.whenSent(sendDeadlineMs);
  }

  /** To clients that take INFO at any time. */
  private tellInfo(): void {
    for (const connection of this.registry.all()) {
      if (connection.takesInfo) connection.write(this.info(connection, false));
    }
  }

  // The connections' side.

  nowMs(): number {
    if (this.clockMs === 0) {
      this.clockMs = Date.now();
      setImmediate(() => (this.clockMs = 0));
    }
    return this.clockMs;
  }

  async identify(request: ConnectRequest): Promise<ConatIdentity | null> {
    this.identifying += 1;
    try {
      for (let attempt = 0; attempt < identifyAttemptsMax; attempt += 1) {
        const startedAt = this.changeCount;
        const identity = await this.options.authenticator.authenticate(request);
        if (!identity || (identity.expiresAt ?? Infinity) <= Date.now()) return null;
        if (!/^[^\s.*>]{1,128}$/.test(identity.name)) {
          throw new TypeError(`identity name "${identity.name}" must be one subject token`);
        }
        // A revocation that came meanwhile found no connection to cut: ask again.
        if ((this.changes.get(identity.name) ?? 0) <= startedAt) return identity;
      }
    } catch (error) {
      this.options.onError?.(error);
    } finally {
      this.identifying -= 1;
      if (this.identifying === 0) this.changes.clear();
    }
    return null;
  }

  private changed(identityName: string): void {
    this.changeCount += 1;
    if (this.identifying > 0) this.changes.set(identityName, this.changeCount);
  }

  homeOf({ account }: ConatIdentity): Broker | null {
    return account === undefined ? this : (this.accounts.get(account) ?? null);
  }

  admit(connection: BrokerClient, identity: ConatIdentity): IdentityRates | string {
    if (this.server && !this.registry.add(connection)) {
      return protocolTexts.maximumAccountConnections;
    }
    const rates = this.fabric.admits(connection)
      ? this.registry.admit(connection, identity.name, this.nowMs())
      : null;
    return rates ?? protocolTexts.maximumConnections;
  }

  subscribed(subscription: Subscription): void {
    this.sublist.insert(subscription);
    this.fabric.subscribed(subscription);
    this.watches.changed(subscription);
  }

  bounded(subscription: Subscription): void {
    this.fabric.bounded(subscription);
  }

  unsubscribed(subscription: Subscription, linger = false): void {
    this.sublist.remove(subscription);
    this.fabric.unsubscribed(subscription, linger);
    this.watches.changed(subscription);
  }

  settled(client: Publisher, done: () => void): void {
    this.fabric.settled(client, done);
  }

  get subscriptionsVersion(): number {
    return this.sublist.version;
  }

  match(subject: string): Match<Subscription> {
    return this.sublist.match(subject);
  }

  /**
   * Does a client of this process listen on this literal subject? Others' are not known here.
   * @param audience see `audienceOf`
   */
  interest(audience: string): boolean {
    const { subject, group } = partsOfAudience(audience);
    const { plain, groups } = this.sublist.match(subject);
    const isHeard = (each: Subscription): boolean => each.client.isHeard(each, subject);
    if (group === '') return plain.some(isHeard) || groups.some((each) => each.some(isHeard));
    return groups.some((each) => each[0]?.queue === group && each.some(isHeard));
  }

  watchInterest(subject: string, listener: InterestListener): () => void {
    return this.watches.add(subject, listener);
  }

  route(from: Publisher, op: PublishOp): number {
    this.metrics.messagesIn += 1;
    const heard = this.fabric.publish(from, op);
    if (heard === 0 && op.reply !== '') {
      this.metrics.noResponders += 1;
      from.noResponders(op);
    }
    return heard;
  }

  trace(from: BrokerClient, op: PublishOp, request: TraceRequest, to: string): MessageTrace | null {
    // The servers of a fabric see the same headers, and everybody who hears the message.
    if (this.fabric.status) return null;
    const subject = op.said === '' ? op.subject : op.said;
    const { identity, traceAs } = from;
    return new MessageTrace(to, identity!, request, op.totalBytes, traceAs, subject, () =>
      this.traceServer(from),
    );
  }

  routeTraced(from: Publisher, op: PublishOp, trace: MessageTrace): number {
    this.metrics.messagesIn += 1;
    const heard = deliverTraced(this.sublist.match(op.subject), from, op, trace);
    if (!trace.only) this.metrics.messagesOut += heard;
    if (heard === 0 && op.reply !== '') {
      this.metrics.noResponders += 1;
      from.noResponders(op);
    }
    if (!trace.handedOver) this.sendTrace(trace);
    return heard;
  }

  sendTrace(trace: MessageTrace): void {
    this.tracer.publish({ to: trace.to, payload: trace.encode() });
  }

  private traceServer({ transport }: BrokerClient): Record<string, unknown> {
    this.traces += 1;
    return {
      name: toBinary(this.options.name ?? 'conat'),
      host: transport.local?.host ?? '0.0.0.0',
      id: this.serverId,
      ver: likeNatsServer,
      jetstream: this.announced.jetstream === true,
      flags: 0,
      seq: this.traces,
      time: systemTime(),
    };
  }

  deliver(match: Match<Subscription>, from: Publisher, op: PublishOp): number {
    return this.fabric.publish(from, op, match);
  }

  deliverFromFabric(subscription: Subscription, from: Publisher, op: PublishOp): void {
    if (subscription.client.deliver(subscription, op, from)) this.metrics.messagesOut += 1;
  }

  deliverTo({ plain, groups }: Match<Subscription>, from: Publisher, op: PublishOp): number {
    let heard = 0;
    for (let i = 0; i < plain.length; i += 1) {
      const subscription = plain[i]!;
      if (subscription.client.deliver(subscription, op, from)) heard += 1;
    }
    for (let g = 0; g < groups.length; g += 1) {
      if (deliverToOne(groups[g]!, op, from)) heard += 1;
    }
    this.metrics.messagesOut += heard;
    return heard;
  }

  subscriptionFor(connection: BrokerClient, subject: string): Subscription | undefined {
    // As nats-server, which asks no queue group.
    const { plain } = this.sublist.match(subject);
    return plain.find((subscription) => subscription.client === connection);
  }

  flushLater(connection: BrokerClient): void {
    if (this.unflushed.length === 0) setImmediate(() => this.flush());
    this.unflushed.push(connection);
  }

  closed(connection: BrokerClient, reason: CloseReason, open: boolean): void {
    if (!this.registry.remove(connection, open)) return;
    this.fabric.left(connection);
    if (this.server) return; // which counts it
    this.metrics.closed[reason] = (this.metrics.closed[reason] ?? 0) + 1;
  }

  left(connection: BrokerClient): void {
    this.registry.left(connection);
  }

  flush(): void {
    // Its clients' output waits there.
    if (this.server) return this.server.flush();
    const batch = this.unflushed;
    this.unflushed = [];
    for (const connection of batch) connection.flush();
  }

  info(connection: BrokerClient, connectInfo: boolean): string {
    const account = connection.identity?.account;
    const info = {
      server_id: this.serverId,
      server_name: this.options.name ?? 'conat',
      version: likeNatsServer,
      go: runtime,
      proto: 1,
      host: connection.transport.local?.host ?? '0.0.0.0',
      port: connection.transport.local?.port ?? 0,
      headers: true,
      ...(this.options.authenticator.required ? { auth_required: true } : {}),
      ...(connection.transport.tlsRequired ? { tls_required: true } : {}),
      max_payload: connection.payloadBytesMax,
      client_id: connection.id,
      client_ip: connection.peer,
      nonce: connection.nonce,
      ...this.announced,
      ...(connectInfo ? { connect_info: true } : {}),
      ...(connectInfo && account !== undefined ? { remote_account: account } : {}),
      ...(this.draining ? { ldm: true } : {}),
    };
    return `INFO ${JSON.stringify(info)} \r\n`;
  }
}

/** Starts at a random member and goes on until one can take the message. */
function deliverToOne(group: readonly Subscription[], op: PublishOp, from: Publisher): boolean {
  const start = group.length === 1 ? 0 : Math.floor(Math.random() * group.length);
  for (let i = 0; i < group.length; i += 1) {
    const subscription = group[(start + i) % group.length]!;
    if (subscription.client.deliver(subscription, op, from)) return true;
  }
  return false;
}

function base32(bytes: Buffer): string {
  const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567';
  return [...bytes].map((byte) => alphabet[byte % 32]).join('');
}

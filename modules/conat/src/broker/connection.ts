import { randomBytes } from 'node:crypto';
import { ConnectOptions } from '../auth/authenticator.js';
import type { ConatIdentity, ConatPermissions } from '../auth/identity.js';
import { FrameWriter } from './frame-writer.js';
import { Parser, type ParserSink, type PublishOp } from './parser.js';
import type { BrokerClient, ConnectionHost, Subscription, Transport } from './ports.js';
import { PermissionCheck, ReplyGrants } from './permission-check.js';
import { closeCodes, protocolTexts, type CloseReason } from './protocol-texts.js';
import { isLiteral, parseFilter } from './subjects.js';

type State = 'new' | 'authenticating' | 'ready' | 'closed';

/**
 * One client. Goes `new` → (CONNECT) `authenticating` → `ready` → `closed`; before `ready` nothing
 * but CONNECT is obeyed, and input that comes while the authenticator thinks is kept, bounded.
 */
export class ClientConnection implements BrokerClient, ParserSink {
  readonly nonce = randomBytes(16).toString('base64url');
  readonly subscriptions = new Map<string, Subscription>();
  identity: ConatIdentity | null = null;
  options: ConnectOptions = ConnectOptions.parse({});
  /** Set while this connection waits for the tick's flush. */
  dirty = false;
  private state: State = 'new';
  private permissions: PermissionCheck | null = null;
  private grants: ReplyGrants | null = null;
  private pingsOut = 0;
  private timer: NodeJS.Timeout;
  private expiry: NodeJS.Timeout | null = null;
  private readonly parser: Parser;
  private readonly writer: FrameWriter;

  constructor(
    private readonly broker: ConnectionHost,
    private readonly transport: Transport,
    readonly id: number,
  ) {
    const { limits } = broker;
    this.parser = new Parser(this, limits.controlLineBytesMax, limits.payloadBytesMax);
    this.writer = new FrameWriter(limits.frameBytesMax, (frame) => this.sendFrame(frame));
    this.timer = setTimeout(() => {
      this.refuse(protocolTexts.authenticationTimeout, 'authentication timeout');
    }, limits.authTimeoutMs);
    this.timer.unref();
  }

  get peer(): string {
    return this.transport.peer;
  }

  get isReady(): boolean {
    return this.state === 'ready';
  }

  get isClosed(): boolean {
    return this.state === 'closed';
  }

  receive(chunk: Buffer): void {
    if (this.state === 'closed') return;
    this.broker.metrics.bytesIn += chunk.length;
    if (
      this.state !== 'ready' &&
      this.parser.carriedBytes + chunk.length > this.broker.limits.preAuthBytesMax
    ) {
      this.refuse(protocolTexts.authorizationViolation, 'authentication failure');
      return;
    }
    this.parser.feed(chunk);
  }

  lost(): void {
    this.end('client closed');
  }

  // What the parser found.

  connect(json: string): void {
    let raw: unknown;
    try {
      raw = JSON.parse(json);
    } catch {
      this.refuse(null, 'protocol violation');
      return;
    }
    // A second CONNECT may change options, keys that it omits stay; it never changes who one is.
    const known = this.state === 'ready' ? this.options : {};
    const parsed = ConnectOptions.safeParse({ ...known, ...(raw as object) });
    if (!parsed.success) {
      this.refuse(null, 'protocol violation');
      return;
    }
    const options = parsed.data;
    if (options.protocol < 0 || options.protocol > 1) {
      this.refuse(protocolTexts.invalidClientProtocol, 'protocol violation');
      return;
    }
    if (options.no_responders && !options.headers) {
      this.refuse(protocolTexts.noRespondersNeedsHeaders, 'protocol violation');
      return;
    }
    this.options = options;
    if (this.state === 'ready') {
      this.ok();
      return;
    }
    this.state = 'authenticating';
    this.parser.pause();
    void this.authenticate();
  }

  headersAllowed(): boolean {
    return this.options.headers;
  }

  publish(op: PublishOp): void {
    if (!this.admitted()) return;
    const { permissions } = this;
    if (this.options.pedantic && !isLiteral(op.subject)) {
      this.error(protocolTexts.invalidPublishSubject);
      return;
    }
    if (
      !permissions!.mayPublish(op.subject) &&
      !this.grants?.take(op.subject, this.broker.nowMs())
    ) {
      this.broker.metrics.violations += 1;
      this.error(protocolTexts.publishViolation(op.subject));
      return;
    }
    if (op.reply !== '' && !permissions!.mayAskReplyTo(op.reply)) {
      this.broker.metrics.violations += 1;
      this.error(protocolTexts.replyViolation(op.reply));
      return;
    }
    this.ok();
    this.broker.route(this, op);
  }

  subscribe(subject: string, queue: string, sid: string): void {
    if (!this.admitted()) return;
    const { limits } = this.broker;
    const tokens = parseFilter(subject, limits.subjectTokensMax);
    if (!tokens) {
      this.error(protocolTexts.invalidSubject);
      return;
    }
    if (this.subscriptions.has(sid)) {
      this.ok(); // as nats-server: the subscription that has the sid goes on
      return;
    }
    if (this.subscriptions.size >= limits.subscriptionsPerConnectionMax) {
      this.error(protocolTexts.maximumSubscriptions);
      return;
    }
    const verdict = this.permissions!.subscribeVerdict(subject, tokens);
    if (verdict === 'none') {
      this.broker.metrics.violations += 1;
      this.error(protocolTexts.subscribeViolation(subject, queue));
      return;
    }
    const subscription: Subscription = {
      client: this,
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
    this.ok();
  }

  unsubscribe(sid: string, max: number): void {
    if (!this.admitted()) return;
    const subscription = this.subscriptions.get(sid);
    if (subscription) {
      if (max > subscription.delivered) subscription.max = max;
      else this.drop(subscription);
    }
    this.ok();
  }

  ping(): void {
    if (!this.admitted()) return;
    this.write('PONG\r\n');
  }

  pong(): void {
    if (!this.admitted()) return;
    this.pingsOut = 0;
  }

  violation(kind: Parameters<ParserSink['violation']>[0]): void {
    if (this.state === 'new') {
      this.refuse(protocolTexts.authorizationViolation, 'authentication failure');
    } else if (kind === 'payload') {
      this.refuse(protocolTexts.maximumPayload, 'maximum payload exceeded');
    } else if (kind === 'control line') {
      this.refuse(protocolTexts.maximumControlLine, 'maximum control line exceeded');
    } else {
      const text = kind === 'unknown' ? protocolTexts.unknownOperation : null;
      this.refuse(text, 'protocol violation');
    }
  }

  // What the broker asks for.

  deliver(subscription: Subscription, op: PublishOp, from: BrokerClient): boolean {
    if (this.state !== 'ready') return false;
    if (from === this && !this.options.echo) return false;
    if (subscription.filtered && !this.permissions!.mayHear(op.subject)) return false;
    subscription.delivered += 1;
    if (this.grants && op.reply !== '') this.grants.add(op.reply, this.broker.nowMs());
    this.writeMessage(subscription, op);
    if (subscription.max > 0 && subscription.delivered >= subscription.max) {
      this.drop(subscription);
    }
    return true;
  }

  noResponders(op: PublishOp): void {
    if (!this.options.no_responders || op.reply === '') return;
    const subscription = this.broker.subscriptionFor(this, op.reply);
    if (!subscription) return;
    const header = `NATS/1.0 503\r\nNats-Subject: ${op.subject}\r\n\r\n`;
    const size = header.length;
    this.write(`HMSG ${op.reply} ${subscription.sid} ${size} ${size}\r\n${header}\r\n`);
    subscription.delivered += 1;
    if (subscription.max > 0 && subscription.delivered >= subscription.max) {
      this.drop(subscription);
    }
  }

  write(text: string): void {
    if (this.state === 'closed') return;
    this.writer.text(text);
    this.touch();
  }

  flush(): void {
    this.dirty = false;
    this.writer.flush();
  }

  setPermissions(permissions: ConatPermissions): void {
    if (!this.identity) return;
    this.identity = { ...this.identity, permissions };
    this.applyIdentity(this.identity);
    for (const subscription of [...this.subscriptions.values()]) {
      const { subject, tokens, queue, sid } = subscription;
      const verdict = this.permissions!.subscribeVerdict(subject, tokens);
      subscription.filtered = verdict === 'filtered';
      if (verdict !== 'none') continue;
      this.drop(subscription);
      this.error(protocolTexts.subscribeRevoked(subject, queue, sid));
    }
  }

  refuse(text: string | null, reason: CloseReason): void {
    if (this.state === 'closed') return;
    if (text !== null) this.writer.text(`-ERR '${text}'\r\n`);
    this.writer.flush();
    if (this.isClosed) return;
    this.end(reason);
    this.transport.close(closeCodes[reason], text ?? reason, 'flush');
  }

  private async authenticate(): Promise<void> {
    const identity = await this.broker.identify({
      options: this.options,
      nonce: this.nonce,
      peer: this.peer,
    });
    if (this.isClosed) return;
    if (!identity) {
      this.refuse(protocolTexts.authorizationViolation, 'authentication failure');
      return;
    }
    if (!this.broker.admit(this, identity)) {
      this.refuse(protocolTexts.maximumConnections, 'maximum connections exceeded');
      return;
    }
    this.applyIdentity(identity);
    this.state = 'ready';
    clearTimeout(this.timer);
    this.startPings();
    this.ok();
    this.parser.resume();
  }

  private applyIdentity(identity: ConatIdentity): void {
    const { limits } = this.broker;
    this.identity = identity;
    this.permissions = new PermissionCheck(
      identity.name,
      identity.permissions,
      limits.permissionCacheMax,
    );
    const { responses } = this.permissions;
    this.grants = responses
      ? new ReplyGrants(responses.countMax, responses.ttlMs, limits.replyGrantsMax)
      : null;
    if (this.expiry) clearTimeout(this.expiry);
    if (identity.expiresAt === undefined) return;
    this.expiry = setTimeout(
      () => this.refuse(protocolTexts.authenticationExpired, 'authentication expired'),
      Math.min(Math.max(0, identity.expiresAt - Date.now()), 2 ** 31 - 1),
    );
    this.expiry.unref();
  }

  private startPings(): void {
    const { pingEveryMs, pingsOutMax } = this.broker.limits;
    // Spread, so that clients that came together are not pinged together.
    const everyMs = pingEveryMs * (1 + Math.random() * 0.1);
    this.timer = setInterval(() => {
      if (this.pingsOut >= pingsOutMax) {
        this.refuse(protocolTexts.staleConnection, 'stale connection');
        return;
      }
      this.pingsOut += 1;
      this.write('PING\r\n');
    }, everyMs);
    this.timer.unref();
  }

  /** Before authentication nothing but CONNECT is obeyed. */
  private admitted(): boolean {
    if (this.state === 'ready') return true;
    this.refuse(protocolTexts.authorizationViolation, 'authentication failure');
    return false;
  }

  private writeMessage(subscription: Subscription, op: PublishOp): void {
    const { writer } = this;
    const stripped = op.withHeaders && !this.options.headers;
    if (op.subject === subscription.lastSubject && !stripped) {
      const head = subscription.lastHead;
      if (head && (head[0] === 72) === op.withHeaders) {
        writer.bytes(head, 0, head.length);
        writer.bytes(op.buffer, op.tailStart, op.tailEnd);
        this.touch();
        return;
      }
      subscription.lastHead = Buffer.from(headOf(op, subscription.sid, op.withHeaders), 'latin1');
    } else if (!stripped) {
      // Remembered from the second time on: replies have subjects that never come again.
      subscription.lastSubject = op.subject;
      subscription.lastHead = null;
    }
    writer.text(headOf(op, subscription.sid, op.withHeaders && !stripped));
    if (stripped) {
      const size = op.totalBytes - op.headerBytes;
      writer.text(`${op.reply ? `${op.reply} ` : ''}${size}\r\n`);
      writer.bytes(op.buffer, op.bodyStart + op.headerBytes, op.tailEnd);
    } else {
      writer.bytes(op.buffer, op.tailStart, op.tailEnd);
    }
    this.touch();
  }

  private touch(): void {
    if (this.dirty) return;
    this.dirty = true;
    this.broker.flushLater(this);
  }

  private sendFrame(frame: Buffer): void {
    if (this.state === 'closed') return;
    this.broker.metrics.bytesOut += frame.length;
    this.transport.send(frame);
    if (this.transport.bufferedBytes <= this.broker.limits.pendingBytesMax) return;
    // Its socket takes nothing any more, so nothing can be said; the close reason may get through.
    this.broker.metrics.slowConsumers += 1;
    this.end('slow consumer');
    this.transport.close(closeCodes['slow consumer'], protocolTexts.slowConsumer, 'at once');
  }

  private ok(): void {
    if (this.options.verbose && this.state === 'ready') this.write('+OK\r\n');
  }

  private error(text: string): void {
    this.write(`-ERR '${text}'\r\n`);
  }

  private drop(subscription: Subscription): void {
    if (!this.subscriptions.delete(subscription.sid)) return;
    this.broker.unsubscribed(subscription);
  }

  private end(reason: CloseReason): void {
    if (this.state === 'closed') return;
    this.state = 'closed';
    clearTimeout(this.timer);
    if (this.expiry) clearTimeout(this.expiry);
    this.parser.stop();
    this.writer.discard();
    for (const subscription of this.subscriptions.values()) this.broker.unsubscribed(subscription);
    this.subscriptions.clear();
    this.broker.closed(this, reason);
  }
}

const headOf = (op: PublishOp, sid: string, withHeaders: boolean): string =>
  `${withHeaders ? 'HMSG' : 'MSG'} ${op.subject} ${sid} `;

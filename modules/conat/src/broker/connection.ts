import { randomBytes } from 'node:crypto';
import { ConnectOptions, saidIn } from '../auth/authenticator.js';
import type { ConatIdentity, ConatPermissions } from '../auth/identity.js';
import { ExpiryTimer } from './expiry-timer.js';
import { FrameWriter } from './frame-writer.js';
import type { TracedListener } from './message-trace.js';
import { Parser, type ParserSink, type PublishOp } from './parser.js';
import { ConnectionTraffic, type TrafficConnection } from './connection-traffic.js';
import type { IdentityRates } from './token-bucket.js';
import type {
  ConnectionHost,
  ConnectionView,
  Publisher,
  Subscription,
  Transport,
  UnheardOp,
} from './ports.js';
import { ReadThrottle } from './read-throttle.js';
import { closeCodes, protocolTexts, type CloseReason } from './protocol-texts.js';
import { TokenBucket } from './token-bucket.js';

type State = 'new' | 'authenticating' | 'ready' | 'closed';

/**
 * One client. Goes `new` → (CONNECT) `authenticating` → `ready` → `closed`; before `ready` nothing
 * but CONNECT is obeyed, and input that comes while the authenticator thinks is kept, bounded.
 */
export class ClientConnection implements TrafficConnection, ParserSink {
  readonly nonce = randomBytes(16).toString('base64url');
  identity: ConatIdentity | null = null;
  options: ConnectOptions = ConnectOptions.parse({});
  /** Set while this connection waits for the tick's flush. */
  dirty = false;
  private state: State = 'new';
  /** Set from `ready` on. */
  private traffic: ConnectionTraffic | null = null;
  private pingsOut = 0;
  private pingedAt = 0;
  /** PINGs whose PONG has not gone out yet. */
  private pingsWaiting = 0;
  /** Those of them that wait for the fabric. */
  private pingsUnsettled = 0;
  private refusals = 0;
  private readonly sinceMs = Date.now();
  private lastActiveMs = this.sinceMs;
  private roundTripMs: number | null = null;
  private messagesIn = 0;
  private bytesIn = 0;
  private messagesOut = 0;
  private bytesOut = 0;
  /** The answer to CONNECT (INFO behind the first PONG) was given. */
  private greeted = false;
  private rates: IdentityRates | null = null;
  /** Where its subjects are: the broker itself, or an account's. */
  private home: ConnectionHost;
  private operations: TokenBucket | null = null;
  /** As its first CONNECT said. */
  hearsItself = true;
  /** Subjects up to here are within all bounds. */
  private readonly shortSubject: number;
  private timer: NodeJS.Timeout;
  private readonly expiry = new ExpiryTimer(() =>
    this.refuse(protocolTexts.authenticationExpired, 'authentication expired'),
  );
  private readonly parser: Parser;
  readonly brake: ReadThrottle;
  readonly writer: FrameWriter;

  constructor(
    private readonly broker: ConnectionHost,
    readonly transport: Transport,
    readonly id: number,
  ) {
    const { limits } = broker;
    this.home = broker;
    this.shortSubject = Math.min(limits.subjectBytesMax, limits.subjectTokensMax * 2 - 1);
    this.parser = new Parser(this, limits.controlLineBytesMax, limits.payloadBytesMax);
    this.brake = new ReadThrottle(transport, this.parser);
    this.writer = new FrameWriter(limits.frameBytesMax, (frame, taken) =>
      this.sendFrame(frame, taken),
    );
    this.timer = setTimeout(() => {
      this.refuse(protocolTexts.authenticationTimeout, 'authentication timeout');
    }, limits.authTimeoutMs);
    this.timer.unref();
  }

  get peer(): string {
    return this.transport.peer;
  }

  get traceAs(): TracedListener {
    return { kind: 'client', id: this.id, name: this.options.name };
  }

  get payloadBytesMax(): number {
    return this.parser.payloadBytesMax;
  }

  get isReady(): boolean {
    return this.state === 'ready';
  }

  get takesInfo(): boolean {
    return this.state === 'ready' && this.options.protocol >= 1;
  }

  get isClosed(): boolean {
    return this.state === 'closed';
  }

  get keptBytes(): number {
    return this.parser.carriedBytes + this.writer.length + this.transport.bufferedBytes;
  }

  receive(chunk: Buffer): void {
    if (this.state === 'closed') return;
    this.broker.metrics.bytesIn += chunk.length;
    this.lastActiveMs = this.broker.nowMs();
    if (
      this.state !== 'ready' &&
      this.parser.carriedBytes + chunk.length > this.broker.limits.preAuthBytesMax
    ) {
      this.refuseEarly();
      return;
    }
    this.parser.feed(chunk);
  }

  refuseEarly(): void {
    this.refuse(protocolTexts.authorizationViolation, 'authentication failure');
  }

  lost(): void {
    this.end('client closed', false);
    this.broker.left(this);
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
    const parsed = ConnectOptions.safeParse({ ...known, ...saidIn(raw as object) });
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
      this.spendOperation();
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
    if (op.subject.length > this.shortSubject || op.reply.length > this.shortSubject) {
      if (!this.checkLength(op)) return;
    }
    this.messagesIn += 1;
    this.bytesIn += op.totalBytes;
    this.traffic!.publish(op);
    const { publishes, requests } = this.rates!;
    if (publishes.spend()) this.slowDown(publishes);
    if (op.reply !== '' && requests.spend()) this.slowDown(requests);
  }

  subscribe(subject: string, queue: string, sid: string): void {
    if (!this.admitted()) return;
    if (subject.length > this.shortSubject && !this.isInBounds(subject)) {
      this.error(protocolTexts.tooManyTokens(subject));
    } else {
      this.traffic!.subscribe(subject, queue, sid);
    }
    this.spendOperation();
  }

  unsubscribe(sid: string, max: number): void {
    if (!this.admitted()) return;
    this.traffic!.unsubscribe(sid, max);
    this.spendOperation();
  }

  ping(): void {
    if (!this.admitted()) return;
    this.pingsWaiting += 1;
    if (this.pingsWaiting > this.broker.limits.pingsWaitingMax) {
      this.refuse(protocolTexts.maximumPings, 'maximum pings exceeded');
      return;
    }
    if (this.greeted) {
      this.pingsUnsettled += 1;
      this.home.settled(this, this.settled);
    } else {
      this.greeted = true;
      this.write('PONG\r\n');
      // As nats-server: what the connection is, for clients that take INFO at any time.
      if (this.options.protocol >= 1) this.write(this.broker.info(this, true));
    }
    this.spendOperation();
  }

  /** What was said before the PING is known everywhere, and what that brought has been written. */
  private readonly settled = (): void => {
    this.pingsUnsettled -= 1;
    this.write('PONG\r\n');
  };

  pong(): void {
    if (!this.admitted()) return;
    if (this.pingsOut === 1) {
      this.roundTripMs = performance.now() - this.pingedAt;
      this.broker.metrics.onRoundTrip?.(this.roundTripMs);
    }
    this.pingsOut = 0;
    this.spendOperation();
  }

  violation(kind: Parameters<ParserSink['violation']>[0]): void {
    if (this.state === 'new') {
      this.refuseEarly();
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

  deliver(subscription: Subscription, op: PublishOp, from: Publisher): boolean {
    if (this.state !== 'ready' || !this.traffic!.deliver(subscription, op, from)) return false;
    this.messagesOut += 1;
    this.bytesOut += op.totalBytes;
    return true;
  }

  view(): ConnectionView {
    const { options, transport, sinceMs, lastActiveMs, roundTripMs } = this;
    const { messagesIn, bytesIn, messagesOut, bytesOut } = this;
    return {
      id: this.id,
      transport: transport.kind,
      address: transport.peer,
      port: transport.peerPort ?? 0,
      identity: this.identity?.name ?? '',
      account: this.identity?.account ?? '',
      name: options.name,
      lang: options.lang,
      version: options.version,
      sinceMs,
      lastActiveMs,
      roundTripMs,
      messagesIn,
      bytesIn,
      messagesOut,
      bytesOut,
      pendingBytes: this.writer.length + transport.bufferedBytes,
      subscriptions: this.traffic?.subjects() ?? [],
    };
  }

  isHeard(subscription: Subscription, subject: string): boolean {
    return this.state === 'ready' && this.traffic!.mayHear(subscription, subject);
  }

  noResponders(op: UnheardOp): void {
    this.traffic?.noResponders(op);
  }

  write(text: string): void {
    if (this.state === 'closed') return;
    this.writer.text(text);
    this.touch();
  }

  flush(): void {
    this.dirty = false;
    this.pingsWaiting = this.pingsUnsettled;
    this.writer.flush();
  }

  setPermissions(permissions: ConatPermissions): void {
    if (!this.identity) return;
    this.identity = { ...this.identity, permissions };
    this.applyIdentity(this.identity);
    this.traffic!.recheck();
  }

  refuse(text: string | null, reason: CloseReason): void {
    if (this.state === 'closed') return;
    if (text !== null) this.writer.text(`-ERR '${text}'\r\n`);
    this.writer.flush();
    if (this.isClosed) return;
    this.end(reason, true);
    this.transport.close(closeCodes[reason], closeText(text, reason), 'flush');
  }

  private async authenticate(): Promise<void> {
    const identity = await this.broker.identify({
      options: this.options,
      nonce: this.nonce,
      peer: this.peer,
    });
    if (this.isClosed) return;
    const home = identity && this.broker.homeOf(identity);
    if (!home) {
      this.refuseEarly();
      return;
    }
    this.hearsItself = this.options.echo;
    this.home = home;
    const rates = home.admit(this, identity);
    if (typeof rates === 'string') {
      this.refuse(rates, 'maximum connections exceeded');
      return;
    }
    this.rates = rates;
    this.parser.payloadBytesMax = Math.min(this.payloadBytesMax, home.limits.payloadBytesMax);
    this.applyIdentity(identity);
    const { operationsPerSecondMax } = this.broker.limits;
    this.operations = new TokenBucket(operationsPerSecondMax, this.broker.nowMs());
    this.state = 'ready';
    clearTimeout(this.timer);
    this.startPings();
    this.ok();
    this.parser.resume();
  }

  private applyIdentity(identity: ConatIdentity): void {
    this.identity = identity;
    this.traffic = new ConnectionTraffic(this.home, this, identity, this.traffic ?? undefined);
    this.expiry.set(identity.expiresAt);
  }

  private startPings(): void {
    const { pingEveryMs, pingsOutMax } = this.broker.limits;
    // Spread, so that clients that came together are not pinged together.
    const everyMs = pingEveryMs * (1 + Math.random() * 0.1);
    this.timer = setInterval(() => {
      // Its PONG may be among what is not read at the moment.
      if (this.brake.isOn) return;
      if (this.pingsOut >= pingsOutMax) {
        this.refuse(protocolTexts.staleConnection, 'stale connection');
        return;
      }
      this.pingsOut += 1;
      this.pingedAt = performance.now();
      this.write('PING\r\n');
    }, everyMs);
    this.timer.unref();
  }

  /** Before authentication nothing but CONNECT is obeyed. */
  private admitted(): boolean {
    if (this.state === 'ready') return true;
    this.refuseEarly();
    return false;
  }

  touch(): void {
    if (this.dirty) return;
    this.dirty = true;
    this.broker.flushLater(this);
  }

  private sendFrame(frame: Buffer, taken?: () => void): void {
    if (this.state === 'closed') return;
    this.broker.metrics.bytesOut += frame.length;
    this.transport.send(frame, taken);
    if (this.transport.bufferedBytes <= this.broker.limits.pendingBytesMax) return;
    // Its socket takes nothing any more, so nothing can be said; the close reason may get through.
    this.broker.metrics.slowConsumers += 1;
    this.end('slow consumer', true);
    this.transport.close(closeCodes['slow consumer'], protocolTexts.slowConsumer, 'at once');
  }

  ok(): void {
    if (this.options.verbose && this.state === 'ready') this.write('+OK\r\n');
  }

  error(text: string): void {
    this.write(`-ERR '${text}'\r\n`);
    if (text !== protocolTexts.maximumSubscriptions) return;
    this.refusals += 1;
    if (this.refusals < this.broker.limits.subscriptionRefusalsMax) return;
    this.refuse(null, 'maximum subscriptions exceeded');
  }

  private checkLength(op: PublishOp): boolean {
    const reply = !this.isInBounds(op.reply);
    if (!reply && this.isInBounds(op.subject)) return true;
    this.broker.metrics.violations += 1;
    const { publishViolation, replyViolation } = protocolTexts;
    this.error(reply ? replyViolation(op.reply) : publishViolation(op.subject));
    return false;
  }

  private isInBounds(subject: string): boolean {
    const { subjectBytesMax, subjectTokensMax } = this.broker.limits;
    return subject.length <= subjectBytesMax && subject.split('.').length <= subjectTokensMax;
  }

  private spendOperation(): void {
    if (this.operations!.spend()) this.slowDown(this.operations!);
  }

  /** Above a rate nothing is dropped: the client is not read until the rate allows more. */
  private slowDown(bucket: TokenBucket): void {
    if (this.brake.isOn || this.state !== 'ready') return;
    const pauseMs = bucket.pauseMs(this.broker.nowMs());
    if (pauseMs === 0) return;
    this.brake.pauseFor(pauseMs);
    this.broker.metrics.throttled += 1;
    this.broker.metrics.throttledMs += pauseMs;
  }

  /** @param open the socket still sends what waits for it */
  private end(reason: CloseReason, open: boolean): void {
    if (this.state === 'closed') return;
    this.state = 'closed';
    this.brake.end();
    clearTimeout(this.timer);
    this.expiry.clear();
    this.parser.stop();
    this.writer.discard();
    this.traffic?.end();
    if (this.home !== this.broker) this.home.closed(this, reason, false);
    this.broker.closed(this, reason, open);
  }
}

/** What a WebSocket client is told in its close frame. */
const closeText = (text: string | null, reason: CloseReason): string =>
  text ?? (reason === 'server shutdown' ? 'Server Shutdown' : reason);

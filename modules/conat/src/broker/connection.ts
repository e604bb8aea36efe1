import { randomBytes } from 'node:crypto';
import { ConnectOptions } from '../auth/authenticator.js';
import type { ConatIdentity, ConatPermissions } from '../auth/identity.js';
import { FrameWriter } from './frame-writer.js';
import { Parser, type ParserSink, type PublishOp } from './parser.js';
import { ConnectionTraffic, type TrafficConnection } from './connection-traffic.js';
import type { ConnectionHost, Speaker, Subscription, Transport } from './ports.js';
import { closeCodes, protocolTexts, type CloseReason } from './protocol-texts.js';

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
  private timer: NodeJS.Timeout;
  private expiry: NodeJS.Timeout | null = null;
  private readonly parser: Parser;
  readonly writer: FrameWriter;

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
    if (this.admitted()) this.traffic!.publish(op);
  }

  subscribe(subject: string, queue: string, sid: string): void {
    if (this.admitted()) this.traffic!.subscribe(subject, queue, sid);
  }

  unsubscribe(sid: string, max: number): void {
    if (this.admitted()) this.traffic!.unsubscribe(sid, max);
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

  deliver(subscription: Subscription, op: PublishOp, from: Speaker): boolean {
    return this.state === 'ready' && this.traffic!.deliver(subscription, op, from);
  }

  isHeard(subscription: Subscription, subject: string): boolean {
    return this.state === 'ready' && this.traffic!.mayHear(subscription, subject);
  }

  noResponders(op: PublishOp): void {
    this.traffic?.noResponders(op);
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
    this.traffic!.recheck();
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
    this.identity = identity;
    this.traffic = new ConnectionTraffic(this.broker, this, identity, this.traffic ?? undefined);
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

  touch(): void {
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

  ok(): void {
    if (this.options.verbose && this.state === 'ready') this.write('+OK\r\n');
  }

  error(text: string): void {
    this.write(`-ERR '${text}'\r\n`);
  }

  private end(reason: CloseReason): void {
    if (this.state === 'closed') return;
    this.state = 'closed';
    clearTimeout(this.timer);
    if (this.expiry) clearTimeout(this.expiry);
    this.parser.stop();
    this.writer.discard();
    this.traffic?.end();
    this.broker.closed(this, reason);
  }
}

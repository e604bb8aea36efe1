import type { Outbox } from '../engine-io.js';
import { statusHeaders, withHeaders } from '../headers.js';

const windowBytesMax = 32 * 1024 * 1024;
const windowBytesFirst = windowBytesMax / 16;

export interface PushFlowOptions {
  /** `<stream>.<consumer>` */
  readonly name: string;
  /** On the broker. */
  readonly deliverTo: string;
  /** Who listens there: see `audienceOf`. */
  readonly audience: string;
  readonly flowControlPrefix: string;
  readonly flowControl: boolean;
  /** 0 for none. */
  readonly heartbeatMs: number;
}

/** What holds a push consumer back: nobody listens, or the listener is behind. */
export class PushFlow {
  active = false;
  nextHeartbeatMs = Infinity;
  private windowBytes = windowBytesFirst;
  private sentBytes = 0;
  private requestedBytes = 0;
  /** The flow control request that is not answered yet. */
  private outstanding = '';
  private readonly nonce = Math.floor(Math.random() * 36 ** 4);
  private requests = 0;

  constructor(
    private readonly outbox: Outbox,
    private readonly options: PushFlowOptions,
  ) {}

  get deliverTo(): string {
    return this.options.deliverTo;
  }

  get audience(): string {
    return this.options.audience;
  }

  get open(): boolean {
    return this.active && !(this.options.flowControl && this.sentBytes > this.windowBytes);
  }

  setActive(active: boolean, nowMs: number): void {
    this.active = active;
    this.rest(nowMs);
    if (active) return;
    this.sentBytes = 0;
    this.requestedBytes = 0;
    this.outstanding = '';
  }

  /** A message went out. */
  sent(bytes: number, nowMs: number): void {
    this.rest(nowMs);
    if (!this.options.flowControl) return;
    this.sentBytes += bytes;
    if (this.outstanding !== '') {
      if (this.sentBytes - this.requestedBytes >= this.windowBytes) this.requestedBytes += bytes;
    } else if (this.sentBytes > this.windowBytes / 2) {
      this.ask();
    }
  }

  /** @param subject behind the account's prefix */
  answered(subject: string): void {
    if (this.outstanding === '' || this.options.flowControlPrefix + subject !== this.outstanding)
      return;
    this.windowBytes = Math.min(windowBytesMax, this.windowBytes * 2);
    this.sentBytes = Math.max(0, this.sentBytes - this.requestedBytes);
    this.requestedBytes = 0;
    this.outstanding = '';
  }

  beatIfDue(nowMs: number, consumerSeq: number, streamSeq: number): void {
    if (this.nextHeartbeatMs > nowMs) return;
    if (this.active) this.say(this.heartbeat(consumerSeq, streamSeq), '');
    this.rest(nowMs);
  }

  heartbeat(consumerSeq: number, streamSeq: number): Buffer {
    return idleHeartbeat(consumerSeq, streamSeq, this.outstanding);
  }

  private rest(nowMs: number): void {
    this.nextHeartbeatMs =
      this.options.heartbeatMs > 0 ? nowMs + this.options.heartbeatMs : Infinity;
  }

  private ask(): void {
    this.requests += 1;
    const token = (this.nonce + this.requests).toString(36);
    this.outstanding = `${this.options.flowControlPrefix}${this.options.name}.${token}`;
    this.requestedBytes = this.sentBytes;
    this.say(statusHeaders('100 FlowControl Request'), this.outstanding);
  }

  private say(headers: Buffer, reply: string): void {
    this.outbox.send({
      to: this.deliverTo,
      shown: '',
      reply,
      headers,
      payload: Buffer.alloc(0),
    });
  }
}

/** @param stalledOn the flow control request that is not answered; '' for none */
export const idleHeartbeat = (consumerSeq: number, streamSeq: number, stalledOn = ''): Buffer =>
  withHeaders(statusHeaders('100 Idle Heartbeat'), {
    'Nats-Last-Consumer': String(consumerSeq),
    'Nats-Last-Stream': String(streamSeq),
    ...(stalledOn !== '' && { 'Nats-Consumer-Stalled': stalledOn }),
  });

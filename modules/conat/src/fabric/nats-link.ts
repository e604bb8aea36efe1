import { backoffMs, Clock, type Logger } from '@rookery/core';
import { FrameWriter } from '../broker/frame-writer.js';
import type { PublishOp } from '../broker/parser.js';
import type { Publisher, Subscription } from '../broker/ports.js';
import { PendingRequests, isNoResponders } from './pending-requests.js';
import { PublishBuffer } from './publish-buffer.js';
import { NatsWire, type DialOptions, type ServerInfo, type WireOwner } from './nats-wire.js';
import { withoutCredentials } from './nats-options.js';

const retry = { firstMs: 50, maxMs: 2_000 };
/** A connection that lasted this long was a good one: the next attempt is made at once. */
const goodAfterMs = 5_000;
const frameBytesMax = 256 * 1024;
const errorLogEveryMs = 10_000;
/** Characters that would end a word of the protocol. */
const separators = /[\0-\x20]/;

/** What all links of one fabric count together. */
export interface LinkCounters {
  reconnects: number;
  dropped: number;
  held: number;
  errors: number;
}

export interface LinkPorts {
  readonly counters: LinkCounters;
  readonly logger: Logger;
  readonly clock: Clock;
  deliver(subscription: Subscription, op: PublishOp): void;
  /** It is connected, and this is what the node said of itself. */
  up(info: ServerInfo): void;
}

interface Entry {
  readonly subscription: Subscription;
  /** Deliveries before the node began to count. */
  base: number;
}

/**
 * One client of the cluster, over whichever node can be reached: `connecting` → `up` → (lost)
 * `connecting` … → `closed`. What is subscribed is told to each node anew, before anything that is
 * published. While it is not up publications wait, for a bounded time in bounded space; then they
 * are given up, and requests among them are answered as if nobody had heard them.
 */
export class NatsLink implements WireOwner {
  private wire: NatsWire | null = null;
  private readonly entries = new Map<string, Entry>();
  private readonly sids = new Map<Subscription, string>();
  private readonly asked: PendingRequests;
  private readonly waiting: PublishBuffer;
  private readonly writer: FrameWriter;
  private lastSid = 0;
  private flushing = false;
  /** Called back with the next PING's PONG; and, in order, with those under way. */
  private unsettled: (() => void)[] = [];
  private settling: (() => void)[][] = [];
  /** The node takes less than is said: who says more is held. */
  private congested = false;
  private readonly held = new Set<Publisher>();
  private gaveUp = false;
  private patience: NodeJS.Timeout | null = null;
  private silence = 0;
  private readonly stop = new AbortController();
  private errorLoggedAt = 0;

  constructor(
    private readonly options: DialOptions,
    private readonly ports: LinkPorts,
  ) {
    this.asked = new PendingRequests(options.noRespondersWithinMs);
    this.waiting = new PublishBuffer(options.bufferedBytesMax);
    this.writer = new FrameWriter(frameBytesMax, (frame, taken) => this.sendFrame(frame, taken));
  }

  get isUp(): boolean {
    return this.wire !== null;
  }

  get subscriptionCount(): number {
    return this.sids.size;
  }

  get bufferedBytes(): number {
    return this.waiting.bytes + this.writer.length + (this.wire?.bufferedBytes ?? 0);
  }

  /** Connects, and connects anew until it is closed. @param first told how the first attempts went */
  async run(first?: (error: Error | null) => void): Promise<void> {
    const { servers } = this.options;
    const { clock } = this.ports;
    const start = Math.floor(Math.random() * servers.length);
    this.bePatient();
    let failures = 0;
    for (let n = start; !this.stop.signal.aborted; n += 1) {
      const server = servers[n % servers.length]!;
      const since = clock.now();
      try {
        const { wire, info } = await NatsWire.dial(server, this.options, this);
        if (this.stop.signal.aborted) return wire.destroy('not needed any more');
        this.up(wire, info);
        first?.(null);
        this.down(server, await wire.ended);
      } catch (error) {
        first?.(error as Error);
        this.log(error, server, 'a node of the messaging cluster cannot be used');
      }
      failures = clock.now() - since > goodAfterMs ? 0 : failures + 1;
      if (failures > 1) await this.rest(failures - 1);
    }
  }

  subscribed(subscription: Subscription): void {
    this.lastSid += 1;
    const sid = String(this.lastSid);
    const entry = { subscription, base: delivered(subscription) };
    this.entries.set(sid, entry);
    this.sids.set(subscription, sid);
    if (this.wire) this.tell(sid, entry);
  }

  bounded(subscription: Subscription): void {
    const sid = this.sids.get(subscription);
    if (sid !== undefined && this.wire) this.tellMax(sid, this.entries.get(sid)!);
  }

  unsubscribed(subscription: Subscription, linger: boolean): void {
    const sid = this.sids.get(subscription);
    if (sid === undefined) return;
    this.sids.delete(subscription);
    if (!this.wire) {
      this.entries.delete(sid);
      return;
    }
    this.say(`UNSUB ${sid}\r\n`);
    if (linger) this.settled(() => this.entries.delete(sid));
    else this.entries.delete(sid);
  }

  publish(from: Publisher, op: PublishOp): number {
    const line = lineOf(op);
    if (!this.isSayable(line, op)) return 0;
    const start = op.tailStart;
    if (this.wire) {
      if (this.bufferedBytes > this.options.bufferedBytesMax) return this.drop();
      this.writer.text(line);
      this.writer.bytes(op.buffer, start, op.tailEnd);
      this.touch();
      if (this.congested) this.hold(from);
    } else if (this.gaveUp || !this.waiting.add(from, op, line, start)) {
      return this.drop();
    }
    if (op.reply !== '') this.asked.add(from, op, this.ports.clock.now());
    return 1;
  }

  settled(done: () => void): void {
    this.unsettled.push(done);
    this.touch();
  }

  /** Sends what waits, until the deadline. */
  async close(deadlineMs: number): Promise<void> {
    const { wire } = this;
    if (wire) {
      const sent = new Promise<void>((resolve) => this.settled(resolve));
      let timer: NodeJS.Timeout | undefined;
      const late = new Promise<void>((resolve) => (timer = setTimeout(resolve, deadlineMs)));
      await Promise.race([sent, wire.ended, late]);
      clearTimeout(timer);
    }
    this.stop.abort();
    if (this.patience) clearTimeout(this.patience);
    this.giveUp();
    this.writer.flush();
    this.wire?.finish();
    this.wire = null;
  }

  // The node's side.

  message(sid: string, op: PublishOp): void {
    const entry = this.entries.get(sid);
    if (!entry) return;
    if (isNoResponders(op)) {
      const asked = this.asked.take(op);
      if (asked) {
        asked.from.noResponders(asked);
        return;
      }
    }
    this.ports.deliver(entry.subscription, op);
  }

  ping(): void {
    this.say('PONG\r\n');
  }

  pong(): void {
    for (const done of this.settling.shift() ?? []) done();
  }

  error(text: string): void {
    this.ports.counters.errors += 1;
    this.log(text, '', 'the messaging cluster refused something');
  }

  drained(): void {
    this.congested = false;
    this.releaseAll();
  }

  private up(wire: NatsWire, info: ServerInfo): void {
    this.wire = wire;
    this.gaveUp = false;
    if (this.patience) clearTimeout(this.patience);
    this.ports.up(info);
    for (const [sid, entry] of this.entries) {
      entry.base = delivered(entry.subscription);
      this.tell(sid, entry);
    }
    for (const { line, tail } of this.waiting.take()) {
      this.writer.text(line);
      this.writer.bytes(tail, 0, tail.length);
    }
    this.touch();
    this.listen(wire);
  }

  private down(server: string, reason: string): void {
    this.wire = null;
    this.writer.discard();
    this.congested = false;
    this.unsettled = [...this.settling.flat(), ...this.unsettled];
    this.settling = [];
    // Nothing comes any more for those that only lingered.
    for (const [sid, { subscription }] of this.entries) {
      if (this.sids.get(subscription) !== sid) this.entries.delete(sid);
    }
    this.releaseAll();
    if (this.stop.signal.aborted) return;
    this.ports.counters.reconnects += 1;
    this.log(reason, server, 'a node of the messaging cluster was lost');
    this.bePatient();
  }

  /** Takes the node for dead when it says nothing at all, not even PONG. */
  private listen(wire: NatsWire): void {
    const { pingEveryMs, pingsOutMax } = this.options;
    this.silence = 0;
    const timer = setInterval(() => {
      this.silence = wire.alive ? 0 : this.silence + 1;
      wire.alive = false;
      if (this.silence > pingsOutMax) wire.destroy('it does not answer');
      else this.settled(() => {});
    }, pingEveryMs);
    timer.unref();
    void wire.ended.then(() => clearInterval(timer));
  }

  private tell(sid: string, entry: Entry): void {
    const { subject, queue } = entry.subscription;
    const line = queue === '' ? `SUB ${subject} ${sid}\r\n` : `SUB ${subject} ${queue} ${sid}\r\n`;
    if (line.length > this.options.controlLineBytesMax || separators.test(queue)) {
      this.error(`a subscription that cannot be told (${line.length} bytes)`);
      return;
    }
    this.say(line);
    if (entry.subscription.max > 0) this.tellMax(sid, entry);
  }

  /** A filtered subscription counts what passes here, which the node cannot know. */
  private tellMax(sid: string, { subscription, base }: Entry): void {
    if (!subscription.filtered)
      this.say(`UNSUB ${sid} ${Math.max(1, subscription.max - base)}\r\n`);
  }

  private isSayable(line: string, op: PublishOp): boolean {
    const { subject, reply } = op;
    // As a node counts: what stands behind the verb, without the line's end.
    const bytes = line.length - verbOf(op).length - 1 + (op.bodyStart - 2 - op.tailStart);
    if (
      bytes <= this.options.controlLineBytesMax &&
      !separators.test(subject) &&
      !separators.test(reply)
    ) {
      return true;
    }
    this.error(`a publication that cannot be told (${bytes} bytes)`);
    return false;
  }

  private say(line: string): void {
    this.writer.text(line);
    this.touch();
  }

  private touch(): void {
    if (this.flushing) return;
    this.flushing = true;
    setImmediate(() => this.flush());
  }

  private flush(): void {
    this.flushing = false;
    if (!this.wire) return;
    if (this.unsettled.length > 0) {
      this.writer.text('PING\r\n');
      this.settling.push(this.unsettled);
      this.unsettled = [];
    }
    this.writer.flush();
  }

  private sendFrame(frame: Buffer, taken?: () => void): void {
    const { wire } = this;
    if (!wire) return;
    wire.send(frame, taken);
    if (wire.bufferedBytes > this.options.holdAboveBytes) this.congested = true;
  }

  private hold(from: Publisher): void {
    if (!from.brake || this.held.has(from)) return;
    this.ports.counters.held += 1;
    this.held.add(from);
    from.brake.hold();
  }

  private releaseAll(): void {
    const held = [...this.held];
    this.held.clear();
    for (const { brake } of held) brake?.release();
  }

  private drop(): number {
    this.ports.counters.dropped += 1;
    return 0;
  }

  private bePatient(): void {
    this.patience = setTimeout(() => this.giveUp(), this.options.patienceMs);
    this.patience.unref();
  }

  private giveUp(): void {
    this.gaveUp = true;
    for (const { from, op } of this.waiting.take()) {
      this.drop();
      if (op.reply !== '') from.noResponders(op);
    }
  }

  private async rest(failures: number): Promise<void> {
    const { clock } = this.ports;
    await clock.delay(backoffMs(failures, retry), this.stop.signal).catch(() => {});
  }

  private log(reason: unknown, server: string, message: string): void {
    const nowMs = this.ports.clock.now();
    if (nowMs - this.errorLoggedAt < errorLogEveryMs || this.stop.signal.aborted) return;
    this.errorLoggedAt = nowMs;
    const node = server === '' ? undefined : withoutCredentials(server);
    this.ports.logger.warn(
      { err: reason, node, reconnects: this.ports.counters.reconnects },
      message,
    );
  }
}

const verbOf = ({ withHeaders }: PublishOp): string => (withHeaders ? 'HPUB' : 'PUB');

/** The line up to where the publisher's own can be copied. */
function lineOf(op: PublishOp): string {
  const { subject, reply, tailStart, sizesStart } = op;
  const verb = verbOf(op);
  // The reply subject is not in the buffer when it is another one here.
  return reply !== '' && tailStart === sizesStart
    ? `${verb} ${subject} ${reply} `
    : `${verb} ${subject} `;
}

const delivered = (subscription: Subscription): number =>
  (subscription.part?.all[0] ?? subscription).delivered;

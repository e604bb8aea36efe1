import type { Outbox } from '../engine-io.js';
import { status, type ParsedPull, type PullRequest } from './pull-request.js';

const nsPerMs = 1_000_000;

/** The requests that wait at one pull consumer, served in turn. */
export class PullQueue {
  private readonly waiting: PullRequest[] = [];
  /** When there was last something to serve; for the inactivity threshold. */
  lastActiveMs: number;

  constructor(
    private readonly outbox: Outbox,
    nowMs: number,
  ) {
    this.lastActiveMs = nowMs;
  }

  get size(): number {
    return this.waiting.length;
  }

  /** Messages that all waiting requests want together. */
  get wanted(): number {
    return this.waiting.reduce((sum, { left }) => sum + left, 0);
  }

  /** How many the next to be served wants: worth reading ahead. */
  get hint(): number {
    return this.waiting[0]?.left ?? 0;
  }

  add(reply: string, pull: ParsedPull, nowMs: number): void {
    const heartbeatMs = pull.heartbeatNs / nsPerMs;
    this.waiting.push({
      reply,
      left: pull.batch,
      bytesLeft: pull.maxBytes,
      limitsBytes: pull.maxBytes > 0,
      noWait: pull.noWait,
      delivered: 0,
      expiresMs: pull.expiresNs > 0 ? nowMs + pull.expiresNs / nsPerMs : Infinity,
      heartbeatMs,
      nextHeartbeatMs: heartbeatMs > 0 ? nowMs + heartbeatMs : Infinity,
      watched: false,
    });
  }

  /** The request that takes a message of this size; those that cannot are told and end. */
  take(bytes: number, nowMs: number): PullRequest | null {
    for (;;) {
      const request = this.waiting[0];
      if (!request) return null;
      if (request.expiresMs <= nowMs) {
        this.timeOut(request);
        this.end(request);
        continue;
      }
      if (request.limitsBytes && bytes > request.bytesLeft) {
        this.say(request, status(409, 'Message Size Exceeds MaxBytes', request));
        this.end(request);
        continue;
      }
      return request;
    }
  }

  /** A message went to the request that {@link take} gave. */
  served(request: PullRequest, bytes: number, nowMs: number): void {
    this.lastActiveMs = nowMs;
    request.delivered += 1;
    request.left -= 1;
    if (request.limitsBytes) {
      request.bytesLeft -= bytes;
      // Nothing else fits, so this was its last.
      if (request.bytesLeft === 0) request.left = 0;
    }
    if (request.left <= 0) {
      if (request.limitsBytes && request.bytesLeft > 0) {
        this.say(request, status(409, 'Batch Completed', request));
      }
      this.end(request);
      return;
    }
    if (request.heartbeatMs > 0) request.nextHeartbeatMs = nowMs + request.heartbeatMs;
    if (this.waiting.length > 1) this.waiting.push(this.waiting.shift()!);
  }

  /**
   * Ends what has expired and, at the end of the stream, what does not want to wait; sends
   * heartbeats.
   * @param heartbeat makes the header of one
   */
  tend(nowMs: number, atEnd: boolean, heartbeat: () => Buffer): void {
    for (const request of [...this.waiting]) {
      if (request.expiresMs <= nowMs) {
        this.timeOut(request);
        this.end(request);
      } else if (
        atEnd &&
        request.noWait &&
        (request.expiresMs === Infinity || request.delivered > 0)
      ) {
        this.say(request, status(404, 'No Messages'));
        this.lastActiveMs = Math.max(this.lastActiveMs, nowMs);
        this.end(request);
      } else if (request.nextHeartbeatMs <= nowMs) {
        this.say(request, heartbeat());
        request.nextHeartbeatMs = nowMs + request.heartbeatMs;
      }
    }
  }

  /** Those that stay are followed, so that they end when their client goes. */
  watchAll(): void {
    for (const request of this.waiting) {
      if (request.watched) continue;
      request.watched = true;
      this.outbox.watch(request.reply);
    }
  }

  nobodyAt(reply: string): void {
    for (const request of [...this.waiting]) if (request.reply === reply) this.end(request);
  }

  /** Tells everybody why it ends. */
  endAll(code: number, text: string): void {
    for (const request of [...this.waiting]) {
      this.say(request, status(code, text, request));
      this.end(request);
    }
  }

  nextWakeMs(): number {
    let next = Infinity;
    for (const { expiresMs, nextHeartbeatMs } of this.waiting) {
      next = Math.min(next, expiresMs, nextHeartbeatMs);
    }
    return next;
  }

  private timeOut(request: PullRequest): void {
    this.say(request, status(408, 'Request Timeout', request));
    this.lastActiveMs = Math.max(this.lastActiveMs, request.expiresMs);
  }

  private say(request: PullRequest, headers: Buffer): void {
    this.outbox.send({
      to: request.reply,
      shown: '',
      reply: '',
      headers,
      payload: Buffer.alloc(0),
    });
  }

  private end(request: PullRequest): void {
    const at = this.waiting.indexOf(request);
    if (at < 0) return;
    this.waiting.splice(at, 1);
    if (request.watched && !this.waiting.some(({ reply }) => reply === request.reply)) {
      this.outbox.unwatch(request.reply);
    }
  }
}

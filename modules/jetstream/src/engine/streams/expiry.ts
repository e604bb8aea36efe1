import type { StoredMessage } from '../account-store.js';
import { headerText, headerValue, withHeaders } from '../headers.js';
import { formatSeconds } from '@rookery/conat/contract';
import { parseTtl } from './publish-checks.js';
import type { Publisher } from './publisher.js';
import type { Stream } from './stream.js';

/** How many messages expire in one go: each go is one transaction. */
const expireMax = 1_000;
const nsPerSecond = 1_000_000_000;

/** Takes away what is older than the stream allows or than its own TTL. */
export class Expiry {
  constructor(private readonly publisher: Publisher) {}

  wake(stream: Stream, nowMs: number): void {
    if (stream.config.sealed) return;
    if (stream.ageDueMs !== null && stream.ageDueMs <= nowMs) this.expireOld(stream, nowMs);
    for (const message of stream.store.expired(nowMs, expireMax)) this.expire(stream, message);
  }

  nextWakeMs(stream: Stream): number | null {
    if (stream.config.sealed) return null;
    return earlier(stream.store.nextExpiryMs(), stream.ageDueMs);
  }

  private expireOld(stream: Stream, nowMs: number): void {
    const old: StoredMessage[] = [];
    let kept = true;
    let next: number | null = null;
    for (const message of stream.store.read(stream.ageFromSeq, null)) {
      const due = stream.ageOf(message.timeNs);
      if (due === null || due > nowMs || old.length >= expireMax) {
        next = due;
        break;
      }
      if (neverExpires(message)) {
        if (kept) stream.ageFromSeq = message.seq + 1;
        continue;
      }
      kept = false;
      old.push(message);
    }
    for (const message of old) this.expire(stream, message);
    stream.ageDueMs = next;
  }

  private expire(stream: Stream, message: StoredMessage): void {
    const markerTtl = Math.floor(stream.config.subject_delete_marker_ttl / nsPerSecond);
    const leavesMarker =
      markerTtl > 0 && !isMarker(message) && stream.countOf(message.subject) === 1;
    if (!leavesMarker) {
      stream.remove([message.seq]);
      return;
    }
    const headers = withHeaders(null, {
      'Nats-Marker-Reason': 'MaxAge',
      'Nats-TTL': formatSeconds(markerTtl),
      'Nats-Rollup': 'sub',
    });
    const plan = { msgId: '', rollup: 'sub', ttlSeconds: markerTtl } as const;
    this.publisher.mark(stream, message.subject, headers, plan);
  }
}

const neverExpires = ({ headers }: StoredMessage): boolean => {
  const ttl = headers && headerValue(headerText(headers), 'Nats-TTL');
  return Boolean(ttl) && parseTtl(ttl!) === -1;
};

function isMarker({ headers }: StoredMessage): boolean {
  if (!headers) return false;
  const text = headerText(headers);
  return (
    Boolean(headerValue(text, 'Nats-Marker-Reason')) ||
    headerValue(text, 'KV-Operation') === 'PURGE'
  );
}

/** The earlier of two times that may not be. */
export const earlier = (a: number | null, b: number | null): number | null =>
  a === null || b === null ? (a ?? b) : Math.min(a, b);

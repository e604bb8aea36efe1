import type { Consumer } from './consumer.js';
import { formatSeconds } from '@rookery/conat/contract';
import { parsePull, status } from './pull-request.js';

const nsPerMs = 1_000_000;

/**
 * A client asks for messages.
 * @returns the status that refuses it, or null when it waits (or is served with the next wake)
 */
export function requestMessages(
  consumer: Consumer,
  reply: string,
  payload: Buffer,
  nowMs: number,
): Buffer | null {
  const { config, pull } = consumer;
  if (!pull) return status(409, 'Consumer is push based');
  const asked = parsePull(payload);
  if (typeof asked === 'string') return status(400, `Bad Request - ${asked}`);
  if (config.max_batch > 0 && asked.batch > config.max_batch) {
    return status(409, `Exceeded MaxRequestBatch of ${config.max_batch}`);
  }
  if (config.max_expires > 0 && asked.expiresNs > config.max_expires) {
    return status(409, `Exceeded MaxRequestExpires of ${goDuration(config.max_expires)}`);
  }
  if (config.max_bytes > 0 && asked.maxBytes > config.max_bytes) {
    return status(409, `Exceeded MaxRequestMaxBytes of ${config.max_bytes}`);
  }
  if (asked.priority === 'overflow') {
    return status(400, 'Bad Request - Not a Overflow Priority consumer');
  }
  if (asked.priority === 'pinned') {
    return status(400, 'Bad Request - Not a Pinned Client Priority consumer');
  }
  if (asked.priority === 'range') {
    return status(400, 'Bad Request - Priority must be between 0 and 9');
  }
  if (pull.size >= config.max_waiting) consumer.tend(nowMs);
  if (asked.noWait) {
    const pending = consumer.numPending() + consumer.positions.queue.length;
    if (pending === 0 && asked.expiresNs === 0) {
      pull.lastActiveMs = nowMs;
      return status(404, 'No Messages');
    }
    if (pending > 0 && pending < pull.wanted) {
      pull.lastActiveMs = nowMs;
      return status(408, 'Requests Pending');
    }
  }
  if (pull.size >= config.max_waiting) {
    // A client with heartbeats would ask again at once; it notices that none come.
    return asked.heartbeatNs > 0 ? null : status(409, 'Exceeded MaxWaiting');
  }
  pull.add(reply, asked, nowMs);
  consumer.nudge();
  return null;
}

/** A duration as Go writes it. */
const goDuration = (ns: number): string =>
  ns % (1_000 * nsPerMs) === 0 ? formatSeconds(ns / 1_000 / nsPerMs) : `${ns / nsPerMs}ms`;

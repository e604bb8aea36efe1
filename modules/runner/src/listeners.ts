import type { ProjectListener } from '@rookery/core/contract';

/** Ports remembered of one project; a program that opens more opens them at random. */
const listenersMax = 64;
/** What came up later than this after a start was started by hand, not by the project itself. */
export const startMsMax = 120_000;
/** How long a port is waited for whose start was never seen. */
const waitMsDefault = 30_000;
/** A port may take this many times as long as it did before, and this long at least. */
const slowerMax = 3;
const waitMsMin = 10_000;

/**
 * What listens now, against what is remembered. A port of the time before the start is kept while it
 * may still come up; a port that was seen since and is gone is forgotten.
 * @param ageMs since the container was started
 */
export function listenersSeen(
  known: readonly ProjectListener[],
  ports: readonly number[],
  ageMs: number,
): ProjectListener[] {
  const before = new Map(known.map((listener) => [listener.port, listener]));
  const seen = ports.map((port): ProjectListener => {
    const listener = before.get(port);
    if (listener?.isUp === true) return listener;
    const startMs = ageMs <= startMsMax ? Math.max(0, Math.round(ageMs)) : listener?.startMs;
    return { port, isUp: true, ...(startMs !== undefined && { startMs }) };
  });
  const awaited = known.filter((listener) => {
    return !listener.isUp && !ports.includes(listener.port) && ageMs < waitMsOf(listener);
  });
  return [...seen, ...awaited].sort((a, b) => a.port - b.port).slice(0, listenersMax);
}

/** As they stand when the container is started: all have yet to come up. */
export const listenersAwaited = (known: readonly ProjectListener[]): ProjectListener[] =>
  known.map((listener) => ({ ...listener, isUp: false }));

/** Ports that answered before this start and have yet to answer again, and until when (epoch ms). */
export function awaitedPorts(
  listeners: readonly ProjectListener[],
  startedAt: number,
): { readonly port: number; readonly until: number }[] {
  return listeners
    .filter(({ isUp }) => !isUp)
    .map((listener) => ({ port: listener.port, until: startedAt + waitMsOf(listener) }));
}

function waitMsOf({ startMs }: ProjectListener): number {
  if (startMs === undefined) return waitMsDefault;
  return Math.min(startMsMax, Math.max(waitMsMin, startMs * slowerMax));
}

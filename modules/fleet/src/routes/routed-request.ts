import { backoffMs, CodedError, CoreErrors, type Clock } from '@rookery/core';
import { FleetErrors } from '../fleet.errors.js';
import { requestError } from '@rookery/rpc';
import type { ConatClient } from '@rookery/conat';
import type { SubjectRouter } from './subject-router.js';

export interface RequestWithin {
  readonly timeoutMs: number;
  readonly idempotent: boolean;
  readonly signal?: AbortSignal;
}

const retry = { firstMs: 50, maxMs: 1_000 };
/** A try that has less than this left is none. */
const tryMsMin = 10;

/**
 * Asks where the subject is. When the connection goes meanwhile (the project moves, the host dies)
 * the caller is told at once, rather than left waiting; what may be asked twice is asked again.
 */
export async function routedRequest<T>(
  router: SubjectRouter,
  subject: string,
  within: RequestWithin,
  clock: Clock,
  ask: (client: ConatClient, leftMs: number) => Promise<T>,
): Promise<T> {
  const { timeoutMs, idempotent, signal } = within;
  const giveUpAt = clock.now() + timeoutMs;
  const leftMs = (): number => giveUpAt - clock.now();
  for (let n = 0; ; n += 1) {
    signal?.throwIfAborted();
    try {
      const client = await router.routeSubject(subject);
      await connected(client, subject, leftMs(), signal);
      return await unlessLost(client, subject, ask(client, Math.max(tryMsMin, leftMs())));
    } catch (error) {
      const coded = requestError(error, subject, timeoutMs);
      const again = idempotent && CodedError.is(coded) && coded.retryable;
      if (!again || leftMs() < tryMsMin || coded.code === 'SERVICE_TIMEOUT') throw coded;
      await clock.delay(Math.min(leftMs(), 20 + backoffMs(n, retry)), signal);
    }
  }
}

/** Nothing is said into a connection that is not there: it would be lost without a word. */
function connected(
  client: ConatClient,
  subject: string,
  timeoutMs: number,
  signal: AbortSignal | undefined,
): Promise<void> {
  if (client.status === 'connected') return Promise.resolve();
  return new Promise((resolve, reject) => {
    const end = (settle: () => void): void => {
      clearTimeout(timer);
      unlisten();
      signal?.removeEventListener('abort', abort);
      settle();
    };
    const missing = (): void => end(() => reject(FleetErrors.CONAT_ROUTE_MISSING({ subject })));
    const abort = (): void => end(() => reject(CoreErrors.CANCELED()));
    const timer = setTimeout(missing, Math.max(0, timeoutMs));
    const unlisten = client.onStatus((status) => {
      if (status === 'connected') end(resolve);
      if (status === 'closed') missing();
    });
    signal?.addEventListener('abort', abort, { once: true });
    if (client.status === 'closed') missing();
  });
}

async function unlessLost<T>(client: ConatClient, subject: string, asked: Promise<T>): Promise<T> {
  let unlisten = (): void => undefined;
  const lost = new Promise<never>((_, reject) => {
    unlisten = client.onStatus((status) => {
      if (status !== 'connected') reject(FleetErrors.CONAT_ROUTE_CHANGED({ subject }));
    });
  });
  // Whichever loses the race may fail later.
  asked.catch(() => undefined);
  try {
    return await Promise.race([asked, lost]);
  } finally {
    unlisten();
  }
}

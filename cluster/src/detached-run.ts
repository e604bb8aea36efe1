import { fileURLToPath } from 'node:url';
import {
  CodedError,
  startDetached,
  tellSupervisor,
  toCodedError,
  type CodedErrorJson,
} from '@rookery/core';
import { ClusterErrors } from './cluster.errors.js';
import type { ClusterPaths } from './cluster-file.js';
import { signal } from './cluster-processes.js';
import type { ClusterSummary } from './cluster-summary.js';

/** The hidden command that a detached supervisor runs. */
export const detachedCommand = 'supervise-cluster';

/** What the supervisor in the background tells the command that started it. */
type Report =
  | { readonly kind: 'step'; readonly text: string }
  | { readonly kind: 'ready'; readonly summary: ClusterSummary }
  | { readonly kind: 'failed'; readonly error: CodedErrorJson };

const main = fileURLToPath(new URL('./main.js', import.meta.url));

export const reportStep = (text: string): void => report({ kind: 'step', text });
export const reportReady = (summary: ClusterSummary): void => report({ kind: 'ready', summary });
export const reportFailure = (error: unknown): void =>
  report({ kind: 'failed', error: toCodedError(error).toJSON() });

function report(message: Report): void {
  tellSupervisor(message);
}

/**
 * Starts a supervisor in a session of its own and waits until the cluster is ready.
 * Canceled before that, the supervisor is told to stop.
 */
export async function superviseDetached(
  paths: ClusterPaths,
  onStep: (text: string) => void,
  canceled: AbortSignal,
): Promise<ClusterSummary> {
  let settle!: { resolve: (summary: ClusterSummary) => void; reject: (error: Error) => void };
  const outcome = new Promise<ClusterSummary>((resolve, reject) => (settle = { resolve, reject }));
  const logFile = paths.log('supervisor');
  const supervisor = await startDetached(
    {
      name: 'supervisor',
      argv: [process.execPath, main, detachedCommand, '--data', paths.dataDir],
      cwd: '/',
      logFile,
    },
    (message) => {
      // It is our own program on the other end of a private channel: the shape is known.
      const heard = message as Report;
      if (heard.kind === 'step') onStep(heard.text);
      else if (heard.kind === 'ready') settle.resolve(heard.summary);
      else settle.reject(new CodedError(heard.error));
    },
  );
  void supervisor.ended.then(() =>
    // After its last message, which may still be on its way.
    setImmediate(() => settle.reject(ClusterErrors.START_ABANDONED({ log: logFile }))),
  );
  const cancel = (): void => void signal(supervisor.identity, 'SIGTERM');
  canceled.addEventListener('abort', cancel, { once: true });
  try {
    return await outcome;
  } finally {
    canceled.removeEventListener('abort', cancel);
    supervisor.release();
  }
}

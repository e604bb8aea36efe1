import { Worker } from 'node:worker_threads';
import { abortedBy } from '@rookery/core';
import { TreeRefused, type TreeAnswer } from './tree-digest.js';

/**
 * The built file: a thread does not see how this one's modules were loaded. Run from sources (by
 * tests), it is where the build puts it.
 */
const entry = (): URL =>
  new URL(
    import.meta.url.endsWith('.ts')
      ? '../../dist/image-tree/tree-digest.worker.js'
      : './tree-digest.worker.js',
    import.meta.url,
  );

/**
 * The digest of a tree, read in a thread of its own. Ending the signal ends the thread.
 * @throws TreeRefused
 */
export async function digestInThread(path: string, signal?: AbortSignal): Promise<string> {
  signal?.throwIfAborted();
  const worker = new Worker(entry(), { workerData: { path }, name: 'tree-digest' });
  // A host that shuts down does not wait for it: what was not written down is read again.
  worker.unref();
  const stop = (): void => void worker.terminate();
  signal?.addEventListener('abort', stop, { once: true });
  try {
    const answer = await new Promise<TreeAnswer>((resolve, reject) => {
      worker.once('message', resolve);
      worker.once('error', reject);
      worker.once('exit', () => reject(new Error(`the thread that read ${path} has ended`)));
    });
    if ('refused' in answer) throw new TreeRefused(answer.refused);
    return answer.treeDigest;
  } catch (error) {
    if (signal?.aborted) throw abortedBy(signal, error);
    throw error;
  } finally {
    signal?.removeEventListener('abort', stop);
  }
}

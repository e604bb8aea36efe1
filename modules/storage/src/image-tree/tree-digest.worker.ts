import { parentPort, workerData } from 'node:worker_threads';
import { treeDigest, TreeRefused, type TreeAnswer } from './tree-digest.js';

/** Runs in a thread: reads one tree, answers once. */
const { path } = workerData as { path: string };
parentPort?.postMessage(answer());

function answer(): TreeAnswer {
  try {
    return { treeDigest: treeDigest(path) };
  } catch (error) {
    // An error loses its class on the way out of a thread.
    if (error instanceof TreeRefused) return { refused: error.message };
    throw error;
  }
}

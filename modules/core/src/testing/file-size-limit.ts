import koffi from 'koffi';

const RLIMIT_FSIZE = 1;
const ownProcess = 0;
const limitBytes = 16;
/** Comes with a write beyond the limit, and ends the process unless it is ignored. */
const SIGXFSZ = 25;
const SIG_IGN = 1n;

type SetLimit = (pid: number, of: number, limit: Uint8Array, former: Uint8Array | null) => number;
type SetHandler = (signal: number, handler: bigint) => bigint;

/**
 * Runs `work` while this process can write no file beyond `bytes`: a write that reaches further is
 * cut off there, the next fails, as on a full disk. Synchronous, so that nothing else of the
 * process meets the limit.
 */
export function withFileSizeMax<T>(bytes: number, work: () => T): T {
  const libc = koffi.load(null);
  const prlimit = libc.func('prlimit', 'int', ['int', 'int', 'void *', 'void *']) as SetLimit;
  const signal = libc.func('signal', 'intptr_t', ['int', 'intptr_t']) as SetHandler;
  const set = (limit: Uint8Array, former: Uint8Array | null): void => {
    if (prlimit(ownProcess, RLIMIT_FSIZE, limit, former) !== 0) {
      throw new Error('the limit of file sizes cannot be set');
    }
  };
  // A soft limit and a hard one, which stays, or the soft one could not be lifted again.
  const former = Buffer.alloc(limitBytes);
  const limit = Buffer.alloc(limitBytes, 0xff);
  limit.writeBigUInt64LE(BigInt(bytes), 0);
  const handler = signal(SIGXFSZ, SIG_IGN);
  try {
    set(limit, former);
    try {
      return work();
    } finally {
      set(former, null);
    }
  } finally {
    signal(SIGXFSZ, BigInt(handler));
  }
}

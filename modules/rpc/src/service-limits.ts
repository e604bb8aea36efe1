const KiB = 1024;

/** Bounds and times of typed services. Both sides of a channel must agree on `windowBytes`. */
export const serviceLimits = {
  /** Each side of a channel says something at least this often. */
  heartbeatMs: 5_000,
  /** A channel whose other side said nothing for this long is over. */
  peerSilentMs: 20_000,
  /** A finished job's result can be asked for again during this time. */
  resultKeepMs: 60_000,
  resultsKeptMax: 1_000,
  /** Jobs and channels that one server has at a time. */
  sessionsMax: 2_000,
  callersPerJobMax: 100,
  /** Bytes on their way in one direction of one channel that nobody has read yet. */
  windowBytes: 512 * KiB,
  /** Replies of a stream on their way that its reader has not taken yet. */
  windowItems: 128,
  chunkBytesMax: 64 * KiB,
  controlBytesMax: 64 * KiB,
  /** How long a caller waits until a server takes its duplex call. */
  acceptTimeoutMs: 10_000,
  closeDeadlineMs: 5_000,
};
export type ServiceLimits = typeof serviceLimits;

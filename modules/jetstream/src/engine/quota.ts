import type { JetStreamQuota } from '@rookery/conat/contract';
import { jsErrors } from './js-errors.js';
import { streamsMax } from './limits.js';
import type { StreamConfig } from './stream-config.js';
import type { Stream } from './streams/stream.js';

type Kind = StreamConfig['storage'];

/**
 * What an account may have, as nats-server's `jetstream { max_file … }` of an account. Streams in
 * memory lie in the same file here and are counted by themselves, as there.
 */
export class AccountQuota {
  /** At least what streams have, or null: looked at anew. A sum for each message would be dear. */
  private readonly used: Record<Kind, number | null> = { file: null, memory: null };

  constructor(
    private readonly quota: JetStreamQuota,
    private readonly streams: () => Iterable<Stream>,
  ) {}

  /** As account information shows it. */
  shown(): Record<string, unknown> {
    const { quota } = this;
    return {
      max_memory: quota.memoryBytesMax ?? -1,
      max_storage: quota.storageBytesMax ?? -1,
      max_streams: quota.streamsMax ?? streamsMax,
      max_consumers: quota.consumersMax ?? -1,
      max_ack_pending: -1,
      memory_max_stream_bytes: -1,
      storage_max_stream_bytes: -1,
      max_bytes_required: false,
    };
  }

  /** @param count streams that there are. @throws JetStreamApiError when there may not be one more */
  checkCount(count: number): void {
    if (count >= Math.min(streamsMax, this.quota.streamsMax ?? Infinity)) {
      throw jsErrors.maximumStreams();
    }
  }

  /**
   * `max_bytes` of streams is reserved for them.
   * @param old of a stream that is changed. @throws JetStreamApiError
   */
  checkReserved({ storage, max_bytes: bytes }: StreamConfig, old?: StreamConfig): void {
    const more = Math.max(0, bytes) - Math.max(0, old?.max_bytes ?? 0);
    const max = this.max(storage);
    if (max === undefined || more <= 0) return;
    let reserved = more;
    for (const { config } of this.streams()) {
      if (config.storage === storage) reserved += Math.max(0, config.max_bytes);
    }
    if (reserved <= max) return;
    throw storage === 'memory' ? jsErrors.insufficientMemory() : jsErrors.insufficientStorage();
  }

  /** @throws JetStreamApiError when so many bytes more are too many */
  checkRoom({ config: { storage } }: Stream, bytes: number): void {
    const max = this.max(storage);
    if (max === undefined) return;
    const used = this.used[storage];
    if (used !== null && used + bytes <= max) return;
    const now = this.sum(storage);
    this.used[storage] = now;
    if (now + bytes > max) throw jsErrors.accountResources();
  }

  /** A message was stored. */
  stored({ config: { storage } }: Stream, bytes: number): void {
    if (this.used[storage] !== null) this.used[storage] += bytes;
  }

  /** Consumers that a stream may have; 0 for any number. */
  consumersOf({ max_consumers: own }: Readonly<StreamConfig>): number {
    const { consumersMax = 0 } = this.quota;
    if (own <= 0 || consumersMax <= 0) return Math.max(own, consumersMax, 0);
    return Math.min(own, consumersMax);
  }

  private max(storage: Kind): number | undefined {
    return storage === 'memory' ? this.quota.memoryBytesMax : this.quota.storageBytesMax;
  }

  private sum(storage: Kind): number {
    let sum = 0;
    for (const { config, store } of this.streams()) {
      if (config.storage === storage) sum += store.state.bytes;
    }
    return sum;
  }
}

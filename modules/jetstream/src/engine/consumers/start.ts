import type { StreamHandle } from '../parts.js';
import { filtersOf, type ConsumerConfig } from './consumer-config.js';
import type { FilterSet } from './filters.js';

export interface Start {
  /** The stream sequence to begin at. */
  readonly seq: number;
  /** For `last_per_subject`: these first, then everything from `resumeAt` on. */
  readonly skipList: number[];
  readonly resumeAt: number;
}

/** Where a new consumer begins. */
export function startOf(config: ConsumerConfig, stream: StreamHandle, filters: FilterSet): Start {
  const { firstSeq, lastSeq } = stream.store.state;
  if (config.deliver_policy === 'by_start_sequence') {
    return { seq: Math.max(config.opt_start_seq, firstSeq), skipList: [], resumeAt: 0 };
  }
  if (config.deliver_policy === 'last_per_subject' && stream.config.max_msgs_per_subject !== 1) {
    const skipList = stream.store.lastPerSubject(filters.forStore);
    return { seq: skipList[0] ?? lastSeq + 1, skipList, resumeAt: lastSeq + 1 };
  }
  const seq = Math.min(Math.max(policySeq(config, stream), firstSeq), lastSeq + 1);
  return { seq: Math.max(1, seq), skipList: [], resumeAt: 0 };
}

function policySeq(config: ConsumerConfig, stream: StreamHandle): number {
  const { store } = stream;
  const { firstSeq, lastSeq } = store.state;
  switch (config.deliver_policy) {
    case 'last': {
      const filters = filtersOf(config);
      if (filters.length === 0) return lastSeq;
      return Math.max(...filters.map((filter) => store.last(filter)?.seq ?? 0));
    }
    case 'new':
      return lastSeq + 1;
    case 'by_start_time':
      return store.seqAtTime(BigInt(Date.parse(config.opt_start_time!)) * 1_000_000n);
    case 'all':
    case 'last_per_subject':
    case 'by_start_sequence':
      return firstSeq;
  }
}

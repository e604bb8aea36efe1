import { shownMetadata } from '../api-level.js';
import { shownStreamConfig } from '../stream-config.js';
import { formatTime, zeroTime } from '@rookery/conat/contract';
import type { Stream } from './stream.js';

interface ShownStream {
  readonly consumers: number;
  readonly nowNs: bigint;
  readonly withDeleted?: boolean;
  readonly subjects?: Readonly<Record<string, number>>;
  /** Lists leave out who answers. */
  readonly plain?: boolean;
}

/** A stream as the API answers it. */
export function showStream(stream: Stream, shown: ShownStream): Record<string, unknown> {
  const { config, store } = stream;
  const metadata = shown.plain ? config.metadata : shownMetadata(config.metadata);
  return {
    config: shownStreamConfig({ ...config, metadata }),
    created: formatTime(store.createdNs),
    state: showState(stream, shown),
    ts: formatTime(shown.nowNs),
  };
}

function showState({ config, store }: Stream, shown: ShownStream): Record<string, unknown> {
  const { state } = store;
  const span = state.lastSeq - state.firstSeq + 1;
  const isNew = state.lastSeq === 0 && state.messages === 0 && config.first_seq === 0;
  const deleted = state.messages > 0 ? span - state.messages : 0;
  return {
    messages: state.messages,
    bytes: state.bytes,
    first_seq: isNew ? 0 : state.firstSeq,
    first_ts: state.messages === 0 ? zeroTime : formatTime(state.firstTimeNs),
    last_seq: state.lastSeq,
    last_ts: state.lastTimeNs === 0n ? zeroTime : formatTime(state.lastTimeNs),
    num_subjects: store.subjectCount() || undefined,
    subjects: shown.subjects,
    num_deleted: deleted || undefined,
    deleted: deleted > 0 && shown.withDeleted ? store.deletedSeqs() : undefined,
    consumer_count: shown.consumers,
  };
}

import type { StoredMsg, StreamInfo } from '@nats-io/jetstream';
import { fields } from '../output/table.js';
import { relativeTime, size } from '../output/format.js';
import { dataText, dataView, headersView } from './payloads.js';

export function storedView(message: StoredMsg): Record<string, unknown> {
  const headers = headersView(message.header);
  return {
    subject: message.subject,
    seq: message.seq,
    time: message.time.toISOString(),
    ...(headers && { headers }),
    ...dataView(message.data),
  };
}

export function storedText(message: StoredMsg, isTerminal: boolean): string {
  const headers = Object.entries(headersView(message.header) ?? {});
  const lines = headers.flatMap(([name, values]) => values.map((value) => `${name}: ${value}\n`));
  const head = `[${message.seq}] ${message.subject}  ${message.time.toISOString()}\n`;
  return `${head}${lines.join('')}${dataText(message.data, isTerminal)}\n`;
}

const limit = (value: number): string => (value > 0 ? String(value) : 'no limit');

/** Nanoseconds of the JetStream API as people say them. */
export const span = (ns: number): string => (ns > 0 ? `${ns / 1e9} s` : 'no limit');

export function streamText({ config, state, created }: StreamInfo): string {
  return fields({
    Stream: config.name,
    Description: config.description,
    Subjects: config.subjects?.join(', '),
    Storage: config.storage,
    Retention: `${config.retention}, discards ${config.discard}`,
    Created: relativeTime(created),
    Messages: `${state.messages} (limit: ${limit(config.max_msgs)})`,
    Bytes: `${size(state.bytes)} (limit: ${config.max_bytes > 0 ? size(config.max_bytes) : 'none'})`,
    'Per subject': limit(config.max_msgs_per_subject),
    Age: span(config.max_age),
    Sequences: `${state.first_seq} to ${state.last_seq}`,
    'Last message': state.messages > 0 ? relativeTime(state.last_ts) : 'never',
    Consumers: String(state.consumer_count),
  });
}

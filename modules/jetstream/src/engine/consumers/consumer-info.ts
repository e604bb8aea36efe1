import type { Clock } from '@rookery/core';
import { shownMetadata } from '../api-level.js';
import { formatTime } from '@rookery/conat/contract';
import { shownConfig } from './consumer-config.js';
import type { Consumer } from './consumer.js';

/** A consumer as the API shows it. */
export function consumerInfo(consumer: Consumer, clock: Clock): Record<string, unknown> {
  const { positions, config } = consumer;
  const { delivered, floor } = positions;
  const active = (ns: bigint): object => (ns === 0n ? {} : { last_active: formatTime(ns) });
  const nowNs = clock.nowNs();
  const pauseLeftNs = consumer.pauseLeftNs(nowNs);
  return {
    stream_name: consumer.stream.name,
    name: consumer.name,
    created: formatTime(consumer.createdNs),
    config: { ...shownConfig(config), metadata: shownMetadata(config.metadata) },
    delivered: {
      consumer_seq: delivered.consumer,
      stream_seq: delivered.stream,
      ...active(positions.lastNs.delivered),
    },
    ack_floor: {
      consumer_seq: floor.consumer,
      stream_seq: floor.stream,
      ...active(positions.lastNs.acked),
    },
    num_ack_pending: positions.pending.size,
    num_redelivered: config.max_deliver === 1 ? 0 : positions.redelivered.size,
    num_waiting: consumer.pull?.size ?? 0,
    num_pending: consumer.numPending(),
    ...(consumer.push?.active ? { push_bound: true } : {}),
    ...(pauseLeftNs > 0 ? { paused: true, pause_remaining: pauseLeftNs } : {}),
    ts: formatTime(nowNs),
  };
}

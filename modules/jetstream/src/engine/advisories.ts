import { randomUUID } from 'node:crypto';
import type { JetStreamAccount } from '../account.js';
import { encodeJson } from './json.js';
import type { Outbox } from './engine-io.js';
import { formatTime } from '@rookery/conat/contract';
import type { AckPlace } from './consumers/ack-message.js';

const prefix = '$JS.EVENT.ADVISORY.CONSUMER';
const streamPrefix = '$JS.EVENT.ADVISORY.STREAM';
const verbs = { create: 'CREATED', modify: 'UPDATED', delete: 'DELETED' } as const;

/** Tells who wants to know what happens to streams, consumers and messages, as a NATS server does. */
export class Advisories {
  constructor(
    private readonly account: JetStreamAccount,
    private readonly outbox: Outbox,
    private readonly nowNs: () => bigint,
  ) {}

  stream(action: keyof typeof verbs, stream: string): void {
    this.say(`${streamPrefix}.${verbs[action]}.${stream}`, 'stream_action', { stream, action });
  }

  consumer(action: 'create' | 'delete', stream: string, consumer: string): void {
    this.say(`${prefix}.${verbs[action]}.${stream}.${consumer}`, 'consumer_action', {
      stream,
      consumer,
      action,
    });
  }

  paused(stream: string, consumer: string, paused: boolean, until: string): void {
    this.say(`${prefix}.PAUSE.${stream}.${consumer}`, 'consumer_pause', {
      stream,
      consumer,
      paused,
      pause_until: until,
    });
  }

  exceeded(stream: string, consumer: string, streamSeq: number, deliveries: number): void {
    this.say(`${prefix}.MAX_DELIVERIES.${stream}.${consumer}`, 'max_deliver', {
      stream,
      consumer,
      stream_seq: streamSeq,
      deliveries,
    });
  }

  refused(stream: string, consumer: string, place: AckPlace): void {
    this.say(`${prefix}.MSG_NAKED.${stream}.${consumer}`, 'nak', of(stream, consumer, place));
  }

  terminated(stream: string, consumer: string, place: AckPlace, reason: string): void {
    this.say(`${prefix}.MSG_TERMINATED.${stream}.${consumer}`, 'terminated', {
      ...of(stream, consumer, place),
      ...(reason === '' ? {} : { reason }),
    });
  }

  private say(subject: string, type: string, what: Record<string, unknown>): void {
    this.outbox.send({
      to: this.account.subjectPrefix + subject,
      shown: '',
      reply: '',
      headers: null,
      payload: encodeJson({
        type: `io.nats.jetstream.advisory.v1.${type}`,
        id: randomUUID(),
        timestamp: formatTime(this.nowNs()),
        ...what,
      }),
    });
  }
}

const of = (stream: string, consumer: string, place: AckPlace): Record<string, unknown> => ({
  stream,
  consumer,
  consumer_seq: place.consumerSeq,
  stream_seq: place.streamSeq,
  deliveries: place.deliveries,
});

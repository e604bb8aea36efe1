import type { Clock } from '@rookery/core';
import type { JetStreamAccount } from '../../account.js';
import type { ApiReplies } from '../api-replies.js';
import type { Advisories } from '../advisories.js';
import type { StreamHandle, StreamLookup } from '../parts.js';
import type { AccountQuota } from '../quota.js';
import type { ConsumerConfig } from './consumer-config.js';
import type { Consumer } from './consumer.js';

/** An account's consumers, as the API asks for them. */
export interface ConsumerDirectory {
  readonly account: JetStreamAccount;
  readonly lookup: StreamLookup;
  readonly replies: ApiReplies;
  readonly clock: Clock;
  readonly advisories: Advisories;
  readonly quota: AccountQuota;
  find(stream: string, name: string): Consumer | undefined;
  /** A stream's consumers; what is removed meanwhile does no harm. */
  of(stream: string): Consumer[];
  create(stream: StreamHandle, config: ConsumerConfig, deliverTo: string, name: string): Consumer;
  /** Keeps a consumer's configuration and positions. */
  store(consumer: Consumer): void;
  remove(consumer: Consumer): void;
}

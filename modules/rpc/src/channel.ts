import { createInbox, type Msg, type MsgHdrs, type Subscription } from '@nats-io/nats-core';
import type { ConatClient } from '@rookery/conat';
import { RpcErrors } from './rpc.errors.js';

/**
 * An inbox of our own that the other side may answer to. Every message names it as the reply, which
 * is also what lets the other side answer at all: brokers allow replies only to what was just asked.
 */
export class Channel {
  /** What the other side publishes to. */
  readonly inbox: string;
  private readonly subscription: Subscription;

  constructor(
    private readonly client: ConatClient,
    onMessage: (message: Msg) => void,
    onRefused: (error: Error) => void = () => undefined,
  ) {
    // A wildcard below an inbox of its own costs the broker one cache entry, however many words.
    const base = createInbox(`_INBOX.${client.identity}`);
    this.inbox = `${base}.m`;
    this.subscription = client.nats.subscribe(`${base}.*`, {
      callback: (error, message) => {
        if (error) onRefused(error);
        else onMessage(message);
      },
    });
  }

  send(to: string, data: Uint8Array, headers?: MsgHdrs): void {
    publish(this.client, to, data, { reply: this.inbox, headers });
  }

  close(): void {
    this.subscription.unsubscribe();
  }
}

/** Our own headers never take more. */
const headerBytesMax = 1024;

/** @throws SERVICE_MESSAGE_TOO_LARGE, SERVICE_UNAVAILABLE on a closed connection */
export function publish(
  client: ConatClient,
  subject: string,
  data: Uint8Array,
  options: { reply?: string; headers?: MsgHdrs } = {},
): void {
  checkSize(client, subject, data, options.headers !== undefined);
  try {
    client.nats.publish(subject, data, options);
  } catch (error) {
    throw RpcErrors.SERVICE_UNAVAILABLE({ subject }, { cause: error });
  }
}

/** @throws SERVICE_MESSAGE_TOO_LARGE when the broker would cut the connection for it */
export function checkSize(
  client: ConatClient,
  subject: string,
  data: Uint8Array,
  withHeaders: boolean,
): void {
  const limitBytes = client.nats.info?.max_payload ?? Infinity;
  if (data.length + (withHeaders ? headerBytesMax : 0) > limitBytes) {
    throw RpcErrors.SERVICE_MESSAGE_TOO_LARGE({ subject, limitBytes });
  }
}

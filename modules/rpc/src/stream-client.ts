import { CoreErrors, toCodedError } from '@rookery/core';
import type { StreamMethod, StreamOptions } from './contract/service.js';
import type { Msg } from '@nats-io/nats-core';
import type { z } from 'zod';
import { RpcErrors } from './rpc.errors.js';
import { Channel } from './channel.js';
import type { Target } from './service-target.js';
import { Silence } from './silence.js';
import {
  errorOf,
  isNoResponders,
  parseOutput,
  typed,
  wireHeaders,
  type MessageType,
} from './wire.js';

type StreamTarget = Target<StreamMethod<z.ZodType, z.ZodType>>;

/** Asks for a stream when it is first read; leaving the loop ends it on the other side, too. */
export async function* readStream(
  target: StreamTarget,
  options: StreamOptions = {},
): AsyncGenerator<unknown, void, undefined> {
  if (options.signal?.aborted) throw CoreErrors.CANCELED();
  const reader = new StreamReader(target);
  const onAbort = (): void => reader.fail(CoreErrors.CANCELED());
  options.signal?.addEventListener('abort', onAbort, { once: true });
  try {
    reader.ask();
    for (;;) {
      const item = await reader.next();
      if (item === null) return;
      yield item.value;
      reader.taken();
    }
  } finally {
    options.signal?.removeEventListener('abort', onAbort);
    reader.close();
  }
}

class StreamReader {
  private readonly channel: Channel;
  private readonly items: { value: unknown }[] = [];
  private readonly timer: NodeJS.Timeout;
  private readonly offStatus: () => void;
  private readonly offRefused: () => void;
  private session: string | null = null;
  private readonly silence: Silence;
  private received = 0;
  private takenItems = 0;
  private saidTaken = 0;
  private failure: Error | null = null;
  private ended = false;
  private wake: () => void = () => undefined;

  constructor(private readonly target: StreamTarget) {
    const { client, limits, subject } = target;
    this.channel = new Channel(
      client,
      (message) => this.hear(message),
      (error) => this.fail(error),
    );
    this.offStatus = client.onStatus((status) => {
      if (status !== 'connected') this.interrupted('the connection to the broker was lost');
    });
    this.offRefused = client.onPublishRefused((refused) => {
      if (refused === subject) this.fail(RpcErrors.SERVICE_FORBIDDEN({ subject }));
    });
    this.silence = new Silence(limits.heartbeatMs);
    this.timer = setInterval(() => this.tick(), limits.heartbeatMs);
  }

  ask(): void {
    const { target } = this;
    this.channel.send(target.subject, target.body, target.headers);
  }

  /** The next reply; null at the end. */
  async next(): Promise<{ value: unknown } | null> {
    while (this.items.length === 0 && !this.ended && this.failure === null) {
      await new Promise<void>((resolve) => (this.wake = resolve));
    }
    const item = this.items.shift();
    if (item) return item;
    if (this.failure !== null) throw this.failure;
    return null;
  }

  /** The reader is done with one: the server may send more. */
  taken(): void {
    this.takenItems += 1;
    if (this.takenItems - this.saidTaken >= this.target.limits.windowItems / 2) this.say('renew');
  }

  /** What came whole stays whole, however late it is read: the server is gone then. */
  fail(error: unknown): void {
    if (this.ended) return;
    this.failure ??= error instanceof Error ? error : toCodedError(error);
    this.wake();
  }

  close(): void {
    clearInterval(this.timer);
    this.offStatus();
    this.offRefused();
    if (!this.ended && this.session !== null) this.say('cancel');
    this.ended = true;
    this.channel.close();
  }

  private hear(message: Msg): void {
    const { subject } = this.target;
    if (isNoResponders(message)) {
      this.fail(RpcErrors.SERVICE_UNAVAILABLE({ subject }));
      return;
    }
    this.silence.heard();
    if (message.reply) this.session = message.reply;
    const error = errorOf(message, subject);
    const type = message.headers?.get(wireHeaders.type) as MessageType | undefined;
    if (error) {
      this.fail(error);
      this.ended = true;
    } else if (type === 'end') {
      const last = message.headers?.get(wireHeaders.sequence) || String(this.received);
      if (last !== String(this.received)) this.interrupted('a reply is missing');
      this.ended = true;
    } else if (type === 'item') {
      this.receive(message);
    }
    this.wake();
  }

  private receive(message: Msg): void {
    this.received += 1;
    if (message.headers?.get(wireHeaders.sequence) !== String(this.received)) {
      this.interrupted('a reply is missing');
      return;
    }
    try {
      const { method, subject } = this.target;
      this.items.push({ value: parseOutput(method.output, message.data, subject) });
    } catch (invalid) {
      this.fail(invalid);
    }
  }

  private tick(): void {
    const { subject, limits } = this.target;
    if (this.silence.beat() >= limits.peerSilentMs) {
      this.fail(RpcErrors.SERVICE_SILENT({ subject, silenceMs: limits.peerSilentMs }));
    } else {
      this.say('renew');
    }
  }

  /** What was received before is still given out; a stream cannot be joined again. */
  private interrupted(reason: string): void {
    if (this.ended) return;
    this.fail(RpcErrors.SERVICE_INTERRUPTED({ subject: this.target.subject, reason }));
  }

  private say(type: MessageType): void {
    if (this.session === null) return;
    this.saidTaken = this.takenItems;
    const hdrs = typed(type);
    hdrs.set(wireHeaders.taken, String(this.takenItems));
    try {
      this.channel.send(this.session, new Uint8Array(), hdrs);
    } catch (error) {
      this.fail(error);
    }
  }
}

import { CoreErrors, toCodedError, type CodedError, type Logger } from '@rookery/core';
import type { CallContext } from './contract/service.js';
import type { Msg } from '@nats-io/nats-core';
import type { ConatClient } from '@rookery/conat';
import { RpcErrors } from './rpc.errors.js';
import { Channel } from './channel.js';
import type { ServiceLimits } from './service-limits.js';
import type { ServiceRequest } from './service-request.js';
import { Silence } from './silence.js';
import {
  encodeError,
  encodeOutput,
  errorHeaders,
  isNoResponders,
  typed,
  wireHeaders,
  type MessageType,
} from './wire.js';

type StreamHandler = (input: unknown, context: CallContext) => AsyncIterable<unknown>;

/** Serves methods that answer many times. */
export class StreamServer {
  private readonly sessions = new Map<StreamSession, Promise<void>>();

  constructor(
    private readonly client: ConatClient,
    private readonly limits: ServiceLimits,
    private readonly logger: Logger,
  ) {}

  start(
    request: ServiceRequest,
    handler: StreamHandler,
    ended: (error?: CodedError) => void,
  ): void {
    const { subject } = request;
    if (this.sessions.size >= this.limits.sessionsMax) {
      throw RpcErrors.SERVICE_BUSY({ subject, limit: this.limits.sessionsMax });
    }
    const session = new StreamSession(this.client, request, this.limits, this.logger);
    const work = session.run(handler).then((error) => {
      this.sessions.delete(session);
      ended(error);
    });
    this.sessions.set(session, work);
  }

  abort(): void {
    for (const session of this.sessions.keys()) session.abort();
  }

  async settled(): Promise<void> {
    await Promise.all(this.sessions.values());
  }
}

/**
 * One stream. Replies go out while the caller reads them: it says how many it has taken, and no
 * more than a window is under way. Any NATS client can ask, too: it gets the replies at their own
 * pace and an empty message at the end, as `requestMany` has it.
 */
class StreamSession {
  private readonly controller = new AbortController();
  private readonly channel: Channel;
  private readonly reply: string;
  /** Somebody who knows nothing of windows and heartbeats. */
  private readonly plain: boolean;
  private readonly timer: NodeJS.Timeout;
  private readonly silence: Silence;
  private sentItems = 0;
  private sentBytes = 0;
  private takenItems = 0;
  /** Bytes sent up to each item that was not taken yet. */
  private readonly marks: number[] = [];
  private takenBytes = 0;
  private resume: () => void = () => undefined;

  constructor(
    client: ConatClient,
    private readonly request: ServiceRequest,
    private readonly limits: ServiceLimits,
    private readonly logger: Logger,
  ) {
    this.reply = request.message.reply!;
    this.plain = !request.message.headers?.has(wireHeaders.version);
    this.channel = new Channel(client, (message) => this.hear(message));
    this.silence = new Silence(limits.heartbeatMs);
    this.timer = setInterval(() => this.beat(), limits.heartbeatMs);
    this.timer.unref();
  }

  /** @returns what it failed with, if it did */
  async run(handler: StreamHandler): Promise<CodedError | undefined> {
    const { request, controller } = this;
    const context = {
      params: request.params,
      caller: request.caller,
      signal: controller.signal,
    };
    let failure: CodedError | undefined;
    try {
      if (!this.plain) this.say('accepted');
      for await (const item of handler(request.input, context)) {
        controller.signal.throwIfAborted();
        this.sendItem(encodeOutput(request.method, item, request.subject));
        await this.room();
      }
      this.sayEnd();
    } catch (error) {
      failure = controller.signal.aborted
        ? toCodedError(controller.signal.reason)
        : toCodedError(error);
      if (failure.status >= 500 && !controller.signal.aborted) {
        this.logger.error({ err: error, subject: request.subject }, 'a stream failed');
      }
      this.sayError(failure);
    } finally {
      clearInterval(this.timer);
      this.channel.close();
    }
    return failure;
  }

  abort(reason: Error = RpcErrors.SERVICE_UNAVAILABLE({ subject: this.request.subject })): void {
    this.controller.abort(reason);
    this.resume();
  }

  private hear(message: Msg): void {
    if (isNoResponders(message)) {
      this.abort(CoreErrors.CANCELED());
      return;
    }
    if (message.reply !== this.reply) return;
    this.silence.heard();
    const type = message.headers?.get(wireHeaders.type) as MessageType | undefined;
    if (type === 'cancel' || type === 'bye') this.abort(CoreErrors.CANCELED());
    const taken = Number(message.headers?.get(wireHeaders.taken) ?? 0);
    while (this.takenItems < Math.min(taken, this.sentItems)) {
      this.takenItems += 1;
      this.takenBytes = this.marks.shift() ?? this.takenBytes;
    }
    this.resume();
  }

  private beat(): void {
    if (this.plain) return;
    if (this.silence.beat() >= this.limits.peerSilentMs) {
      this.abort(CoreErrors.CANCELED());
      return;
    }
    this.say('heartbeat');
  }

  private async room(): Promise<void> {
    const { signal } = this.controller;
    while (!this.plain && this.isFull() && !signal.aborted) {
      await new Promise<void>((resolve) => (this.resume = resolve));
    }
    signal.throwIfAborted();
  }

  private isFull(): boolean {
    return (
      this.sentItems - this.takenItems >= this.limits.windowItems ||
      this.sentBytes - this.takenBytes >= this.limits.windowBytes
    );
  }

  private sendItem(body: Uint8Array): void {
    this.sentItems += 1;
    this.sentBytes += body.length;
    this.marks.push(this.sentBytes);
    const hdrs = typed('item');
    hdrs.set(wireHeaders.sequence, String(this.sentItems));
    this.channel.send(this.reply, body, hdrs);
  }

  private say(type: MessageType): void {
    this.channel.send(this.reply, new Uint8Array(), typed(type));
  }

  /** With the number of the last reply: were that one lost, the stream would look whole. */
  private sayEnd(): void {
    const hdrs = typed('end');
    hdrs.set(wireHeaders.sequence, String(this.sentItems));
    this.channel.send(this.reply, new Uint8Array(), hdrs);
  }

  private sayError(error: CodedError): void {
    try {
      this.channel.send(this.reply, encodeError(error), errorHeaders(error, 'end'));
    } catch (lost) {
      this.logger.warn({ err: lost }, 'a stream could not tell its end');
    }
  }
}

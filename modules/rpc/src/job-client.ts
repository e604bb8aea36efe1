import { abortedBy, CoreErrors } from '@rookery/core';
import { Progress } from '@rookery/core/contract';
import type { JobMethod, JobOptions } from './contract/service.js';
import { headers, nuid, type Msg } from '@nats-io/nats-core';
import type { z } from 'zod';
import { RpcErrors } from './rpc.errors.js';
import { Channel } from './channel.js';
import type { Target } from './service-target.js';
import { Silence } from './silence.js';
import {
  decodeJson,
  errorOf,
  isNoResponders,
  parseOutput,
  typed,
  wireHeaders,
  type MessageType,
} from './wire.js';

type JobTarget = Target<JobMethod<z.ZodType, z.ZodType>>;

/** Asks for a job and waits for its result. */
export function runJob(target: JobTarget, options: JobOptions = {}): Promise<unknown> {
  if (options.signal?.aborted) return Promise.reject(abortedBy(options.signal));
  return new Promise((resolve, reject) => new JobCall(target, options, resolve, reject).start());
}

/**
 * The caller's side. Says `renew` with each heartbeat: that proves that we are here, renews the
 * server's right to answer, and makes it say again a result that was lost. When the server cannot
 * be reached that way (both sides were reconnected), it asks for the run by its number.
 */
class JobCall {
  private readonly channel: Channel;
  private readonly runId = nuid.next();
  private readonly timer: NodeJS.Timeout;
  private session: string | null = null;
  private readonly silence: Silence;
  /** The broker found nobody at the run's own subject. */
  private isGone = false;
  private done = false;
  private readonly onAbort = (): void => this.leave();
  private readonly offStatus: () => void;
  private readonly offRefused: () => void;

  constructor(
    private readonly target: JobTarget,
    private readonly options: JobOptions,
    private readonly resolve: (value: unknown) => void,
    private readonly reject: (error: unknown) => void,
  ) {
    this.channel = new Channel(
      target.client,
      (message) => this.hear(message),
      (error) => this.fail(error),
    );
    this.offStatus = target.client.onStatus((status) => {
      if (status === 'connected') this.ask(true);
      if (status === 'closed') {
        this.fail(RpcErrors.SERVICE_UNAVAILABLE({ subject: target.subject }));
      }
    });
    // The broker tells of a refusal in no other way: we would wait for as long as a job may be silent.
    this.offRefused = target.client.onPublishRefused((refused) => {
      const { subject } = target;
      if (refused === subject) this.fail(RpcErrors.SERVICE_FORBIDDEN({ subject }));
    });
    const beatMs = Math.min(target.limits.heartbeatMs, target.method.silenceMs / 3);
    this.silence = new Silence(beatMs);
    this.timer = setInterval(() => this.tick(), beatMs);
  }

  start(): void {
    this.options.signal?.addEventListener('abort', this.onAbort, { once: true });
    this.ask(false);
  }

  private ask(attachOnly: boolean): void {
    const { target } = this;
    const hdrs = headers();
    for (const key of target.headers.keys()) hdrs.set(key, target.headers.get(key));
    hdrs.set(wireHeaders.run, this.runId);
    if (attachOnly) hdrs.set(wireHeaders.attach, '1');
    try {
      this.channel.send(target.subject, target.body, hdrs);
    } catch (error) {
      this.fail(error);
    }
  }

  private hear(message: Msg): void {
    if (this.done) return;
    const { subject, method } = this.target;
    if (isNoResponders(message)) {
      // Before the job was taken this is final; later the server may only be reconnecting.
      if (!this.session) this.fail(RpcErrors.SERVICE_UNAVAILABLE({ subject }));
      this.isGone = true;
      return;
    }
    this.silence.heard();
    this.isGone = false;
    if (message.reply) this.session = message.reply;
    const type = message.headers?.get(wireHeaders.type) as MessageType | '' | undefined;
    const error = errorOf(message, subject);
    if (error) {
      this.fail(error);
    } else if (type === 'progress') {
      const progress = Progress.safeParse(tryDecode(message.data));
      if (progress.success) this.options.onProgress?.(progress.data);
    } else if (type === 'result') {
      try {
        const output: unknown = parseOutput(method.output, message.data, subject);
        this.end();
        this.resolve(output);
      } catch (invalid) {
        this.fail(invalid);
      }
    }
  }

  private tick(): void {
    const { subject, method, limits } = this.target;
    const silentMs = this.silence.beat();
    if (this.isGone && silentMs >= limits.peerSilentMs) {
      // A process that died: who reconnects is quicker. Whatever took its place does not know the run.
      this.fail(RpcErrors.SERVICE_INTERRUPTED({ subject, reason: 'nobody is there any more' }));
    } else if (silentMs >= method.silenceMs) {
      this.fail(RpcErrors.SERVICE_SILENT({ subject, silenceMs: method.silenceMs }));
    } else {
      this.say('renew');
      if (silentMs > method.silenceMs / 2) this.ask(true);
    }
  }

  /** A caller that has to stop without a cancel leaves the job alone: its successor wants it. */
  private leave(): void {
    const reason = this.options.signal ? abortedBy(this.options.signal) : CoreErrors.CANCELED();
    if (reason.code === 'CANCELED') this.say('cancel');
    this.fail(reason);
  }

  private say(type: MessageType): void {
    if (!this.session || this.done) return;
    try {
      this.channel.send(this.session, new Uint8Array(), typed(type));
    } catch (error) {
      if (type === 'renew') this.fail(error);
    }
  }

  private fail(error: unknown): void {
    if (this.done) return;
    this.end();
    this.reject(error);
  }

  private end(): void {
    this.say('bye');
    this.done = true;
    clearInterval(this.timer);
    this.offStatus();
    this.offRefused();
    this.options.signal?.removeEventListener('abort', this.onAbort);
    this.channel.close();
  }
}

function tryDecode(data: Uint8Array): unknown {
  try {
    return decodeJson(data);
  } catch {
    return undefined;
  }
}

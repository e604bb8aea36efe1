import type { Readable, Writable } from 'node:stream';
import { CoreErrors, toCodedError } from '@rookery/core';
import type { CallOptions, DuplexCall, DuplexMethod } from './contract/service.js';
import type { Msg } from '@nats-io/nats-core';
import type { z } from 'zod';
import { RpcErrors } from './rpc.errors.js';
import { Channel } from './channel.js';
import { channels, DuplexSession, frames } from './duplex-session.js';
import type { Target } from './service-target.js';
import {
  decodeError,
  encodeJson,
  errorOf,
  isNoResponders,
  parseOutput,
  wireHeaders,
} from './wire.js';

type DuplexTarget = Target<DuplexMethod<z.ZodType, z.ZodType, z.ZodType>>;

/** Opens a duplex call; resolves when a server has taken it. */
export async function openDuplex(
  target: DuplexTarget,
  options: CallOptions = {},
): Promise<DuplexCall<unknown, unknown>> {
  if (options.signal?.aborted) throw CoreErrors.CANCELED();
  const call = new ClientDuplex(target, options);
  await call.open();
  return call;
}

class ClientDuplex implements DuplexCall<unknown, unknown> {
  readonly stdin: Writable;
  readonly stdout: Readable;
  readonly stderr: Readable;
  readonly result: Promise<unknown>;
  private readonly channel: Channel;
  private readonly session: DuplexSession;
  private server: string | null = null;
  private over = false;
  private accepted!: () => void;
  private refused!: (error: unknown) => void;
  private resolveResult!: (value: unknown) => void;
  private rejectResult!: (error: unknown) => void;
  private readonly onAbort = (): void => this.cancel();

  constructor(
    private readonly target: DuplexTarget,
    private readonly options: CallOptions,
  ) {
    this.result = new Promise((resolve, reject) => {
      this.resolveResult = resolve;
      this.rejectResult = reject;
    });
    // Who only reads the bytes need not look at the result.
    this.result.catch(() => undefined);
    this.channel = new Channel(
      target.client,
      (message) => this.hear(message),
      (error) => this.fail(error),
    );
    this.session = new DuplexSession(
      {
        send: (frame) => this.sendFrame(frame),
        control: () => undefined,
        result: (body) => this.finish(body),
        error: (body) => this.fail(decodeError(body, target.subject)),
        cancel: () => undefined,
        bye: () => undefined,
        broken: (reason, silent) => this.broken(reason, silent),
      },
      target.limits,
    );
    this.stdin = this.session.openOutgoing(channels.stdin);
    this.stdout = this.session.openIncoming(channels.stdout);
    this.stderr = this.session.openIncoming(channels.stderr);
  }

  async open(): Promise<void> {
    const { target, options } = this;
    const { subject, limits } = target;
    const timeoutMs = options.timeoutMs ?? limits.acceptTimeoutMs;
    const timer = setTimeout(
      () => this.fail(RpcErrors.SERVICE_TIMEOUT({ subject, timeoutMs })),
      timeoutMs,
    );
    const unlisten = target.client.onPublishRefused((refused) => {
      if (refused === subject) this.fail(RpcErrors.SERVICE_FORBIDDEN({ subject }));
    });
    options.signal?.addEventListener('abort', this.onAbort, { once: true });
    const accepted = new Promise<void>((resolve, reject) => {
      this.accepted = resolve;
      this.refused = reject;
    });
    // What fails while it is sent is thrown before anybody waits here.
    accepted.catch(() => undefined);
    try {
      this.channel.send(subject, target.body, target.headers);
      await accepted;
    } catch (error) {
      this.fail(error);
      throw error;
    } finally {
      clearTimeout(timer);
      unlisten();
    }
  }

  control(message: unknown): void {
    const { method, limits, subject } = this.target;
    const body = encodeJson(method.control.parse(message));
    if (body.length > limits.controlBytesMax) {
      const limitBytes = limits.controlBytesMax;
      throw RpcErrors.SERVICE_MESSAGE_TOO_LARGE({ subject, limitBytes });
    }
    this.session.send(frames.control, 0, body);
  }

  cancel(): void {
    if (this.over) return;
    this.session.send(frames.cancel, 0);
    this.fail(CoreErrors.CANCELED());
  }

  private hear(message: Msg): void {
    const { subject } = this.target;
    if (this.over) return;
    if (isNoResponders(message)) {
      this.fail(
        this.server
          ? RpcErrors.SERVICE_INTERRUPTED({ subject, reason: 'the server is gone' })
          : RpcErrors.SERVICE_UNAVAILABLE({ subject }),
      );
      return;
    }
    const error = errorOf(message, subject);
    if (error) {
      this.fail(error);
    } else if (message.headers?.get(wireHeaders.type) === 'accepted') {
      this.server = message.reply ?? null;
      this.accepted();
    } else if (message.reply === this.server) {
      this.session.receive(message.data);
    }
  }

  private sendFrame(frame: Buffer): void {
    if (!this.server || this.over) return;
    try {
      this.channel.send(this.server, frame);
    } catch (error) {
      setImmediate(() => this.broken(toCodedError(error).message, false));
    }
  }

  private finish(body: Uint8Array): void {
    const { method, subject } = this.target;
    try {
      const output: unknown = parseOutput(method.output, body, subject);
      // What it did not read of stdin it did not want.
      this.stdin.destroy();
      const reason = 'the other side did not end what it wrote';
      this.end(RpcErrors.SERVICE_INTERRUPTED({ subject, reason }));
      this.resolveResult(output);
    } catch (error) {
      this.fail(error);
    }
  }

  private broken(reason: string, silent: boolean): void {
    const { subject, limits } = this.target;
    this.fail(
      silent
        ? RpcErrors.SERVICE_SILENT({ subject, silenceMs: limits.peerSilentMs })
        : RpcErrors.SERVICE_INTERRUPTED({ subject, reason }),
    );
  }

  private fail(error: unknown): void {
    if (this.over) return;
    this.end(error instanceof Error ? error : toCodedError(error));
    this.refused(error);
    this.rejectResult(error);
  }

  /** @param cut what readers of a stream hear whose end was not said, behind its last byte */
  private end(cut: Error): void {
    if (this.server) this.session.send(frames.bye, 0);
    this.over = true;
    this.options.signal?.removeEventListener('abort', this.onAbort);
    this.session.cutIncoming(cut);
    if (!this.stdin.writableFinished) this.stdin.destroy(cut);
    this.session.close();
    this.channel.close();
  }
}

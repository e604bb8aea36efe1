import type { Readable, Writable } from 'node:stream';
import { finished } from 'node:stream/promises';
import { CoreErrors, toCodedError, type Logger } from '@rookery/core';
import type { DuplexContext, DuplexMethod } from './contract/service.js';
import type { z } from 'zod';
import type { ConatClient } from '@rookery/conat';
import { RpcErrors } from './rpc.errors.js';
import { Channel } from './channel.js';
import { channels, DuplexSession, frames } from './duplex-session.js';
import type { ServiceLimits } from './service-limits.js';
import type { ServiceRequest } from './service-request.js';
import { decodeJson, encodeError, encodeOutput, isNoResponders, typed } from './wire.js';

export type AnyDuplexHandler = (
  input: unknown,
  context: DuplexContext<unknown>,
) => Promise<unknown>;

type AnyDuplexMethod = DuplexMethod<z.ZodType, z.ZodType, z.ZodType>;

/** The server's side of duplex calls. */
export class DuplexServer {
  private readonly sessions = new Map<ServedDuplex, Promise<void>>();

  constructor(
    private readonly client: ConatClient,
    private readonly limits: ServiceLimits,
    private readonly logger: Logger,
  ) {}

  start(request: ServiceRequest, handler: AnyDuplexHandler): void {
    const { limits } = this;
    if (this.sessions.size >= limits.sessionsMax) {
      throw RpcErrors.SERVICE_BUSY({ subject: request.subject, limit: limits.sessionsMax });
    }
    const session = new ServedDuplex(this.client, request, limits, this.logger);
    const work = session.run(handler).finally(() => this.sessions.delete(session));
    this.sessions.set(session, work);
  }

  abort(): void {
    for (const session of this.sessions.keys()) {
      session.abort(RpcErrors.SERVICE_UNAVAILABLE({ subject: session.subject }));
    }
  }

  async settled(): Promise<void> {
    await Promise.all(this.sessions.values());
  }

  close(): void {
    for (const session of this.sessions.keys()) session.close();
  }
}

const earlyControlsMax = 100;

class ServedDuplex {
  readonly subject: string;
  private readonly controller = new AbortController();
  private readonly channel: Channel;
  private readonly session: DuplexSession;
  private readonly stdin: Readable;
  private readonly stdout: Writable;
  private readonly stderr: Writable;
  private readonly controlListeners = new Set<(message: unknown) => void>();
  /** What came before the handler listened. */
  private readonly earlyControls: unknown[] = [];
  private readonly reply: string;
  private gone = false;
  private finished = false;
  private heardOut!: () => void;
  private readonly said = new Promise<void>((resolve) => (this.heardOut = resolve));

  constructor(
    client: ConatClient,
    private readonly request: ServiceRequest,
    limits: ServiceLimits,
    private readonly logger: Logger,
  ) {
    this.subject = request.subject;
    this.reply = request.message.reply!;
    this.channel = new Channel(client, (message) => {
      if (isNoResponders(message)) this.lost('the caller is gone');
      else if (message.reply === this.reply) this.session.receive(message.data);
    });
    this.session = new DuplexSession(
      {
        send: (frame) => this.sendFrame(frame),
        control: (body) => this.control(body),
        result: () => undefined,
        error: () => undefined,
        cancel: () => {
          this.abort(CoreErrors.CANCELED());
          this.leave();
        },
        bye: () => {
          if (!this.finished) this.abort(CoreErrors.CANCELED());
          this.leave();
        },
        broken: (reason) => this.lost(reason),
      },
      limits,
    );
    this.stdin = this.session.openIncoming(channels.stdin);
    this.stdout = this.session.openOutgoing(channels.stdout);
    this.stderr = this.session.openOutgoing(channels.stderr);
  }

  async run(handler: AnyDuplexHandler): Promise<void> {
    const { request, session } = this;
    try {
      this.channel.send(this.reply, new Uint8Array(), typed('accepted'));
      const output = await handler(request.input, {
        params: request.params,
        caller: request.caller,
        signal: this.controller.signal,
        stdin: this.stdin,
        stdout: this.stdout,
        stderr: this.stderr,
        onControl: (listener) => this.listen(listener),
      });
      const body = encodeOutput(request.method, output, this.subject);
      // The result comes behind the last byte: who has it has everything.
      for (const stream of [this.stdout, this.stderr]) {
        if (!stream.writableEnded && !stream.destroyed) stream.end();
      }
      await Promise.all([flushed(this.stdout), flushed(this.stderr)]);
      this.finished = true;
      session.send(frames.result, 0, body);
    } catch (error) {
      this.finished = true;
      const coded = toCodedError(error);
      if (coded.status >= 500 && !this.gone) {
        this.logger.error({ err: error, subject: this.subject }, 'a duplex call failed');
      }
      session.send(frames.error, 0, encodeError(coded));
    }
    // It is said again with each heartbeat until the caller says bye or is silent for too long.
    await this.said;
    this.close();
  }

  abort(reason: Error): void {
    this.controller.abort(reason);
    this.session.destroyStreams(reason);
  }

  close(): void {
    this.leave();
    this.session.close();
    this.channel.close();
  }

  private leave(): void {
    this.gone = true;
    this.heardOut();
  }

  private lost(reason: string): void {
    if (this.gone) return;
    this.leave();
    this.abort(RpcErrors.SERVICE_INTERRUPTED({ subject: this.subject, reason }));
  }

  private sendFrame(frame: Buffer): void {
    if (this.gone) return;
    try {
      this.channel.send(this.reply, frame);
    } catch (error) {
      setImmediate(() => this.lost(toCodedError(error).message));
    }
  }

  private listen(listener: (message: unknown) => void): void {
    this.controlListeners.add(listener);
    for (const message of this.earlyControls.splice(0)) listener(message);
  }

  private control(body: Uint8Array): void {
    const { control } = this.request.method as AnyDuplexMethod;
    let message: unknown;
    try {
      message = control.parse(decodeJson(body));
    } catch (error) {
      this.logger.warn({ err: error, subject: this.subject }, 'a control message is not valid');
      return;
    }
    if (this.controlListeners.size === 0 && this.earlyControls.length < earlyControlsMax) {
      this.earlyControls.push(message);
    }
    for (const listener of this.controlListeners) listener(message);
  }
}

/** A stream that its handler destroyed is as done as one that it ended. */
const flushed = (stream: Writable): Promise<void> =>
  stream.destroyed ? Promise.resolve() : finished(stream, { cleanup: true });

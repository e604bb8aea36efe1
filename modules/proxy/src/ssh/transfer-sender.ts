import { timingSafeEqual } from 'node:crypto';
import type { Readable } from 'node:stream';
import { CodedError, parseConfig } from '@rookery/core';
import { CodedErrorView } from '@rookery/core/contract';
import { receiveCommand, transferLogin } from '@rookery/fleet/contract';
import ssh2, { type Client, type ClientChannel } from 'ssh2';
import type { z } from 'zod';
import { TransferResult, type TransferItem } from '../contract.js';
import { ProxyErrors } from '../proxy.errors.js';
import { sshAlgorithms } from './ssh-algorithms.js';
import { opensshPrivateKey } from './ssh-keys.js';
import { SshLimits } from './ssh-limits.js';

/** Who sends: the host and its transfer key (Ed25519, PKCS#8 PEM or OpenSSH). */
export interface TransferIdentity {
  readonly sourceHostId: string;
  readonly privateKey: string;
}

/** Where to; a move's `MoveTarget` fits. */
export interface TransferTarget {
  readonly sshHost: string;
  readonly sshPort: number;
  /** `ssh-ed25519 AAAA…`: the one host key that is believed. */
  readonly ingressKey: string;
}

export interface SendOptions {
  readonly signal?: AbortSignal;
  /** Bytes handed to the connection so far. */
  readonly onProgress?: (bytes: number) => void;
}

/** Answers of a destination longer than this are cut: they are one line of JSON. */
const answerBytesMax = 64 * 1024;

/** Sends streams of a move to the SSH ingress of another host. */
export class TransferSender {
  private readonly limits: SshLimits;
  private readonly privateKey: string;

  constructor(
    private readonly identity: TransferIdentity,
    limits: z.input<typeof SshLimits> = {},
  ) {
    this.limits = parseConfig(SshLimits, limits);
    this.privateKey = opensshPrivateKey(identity.privateKey);
  }

  /**
   * Logs in; several streams may go over one connection, and each saves the handshake.
   * @throws HOST_KEY_MISMATCH, TRANSFER_REFUSED, TRANSFER_FAILED (retryable)
   */
  async connect(target: TransferTarget, signal?: AbortSignal): Promise<TransferConnection> {
    signal?.throwIfAborted();
    const client = new ssh2.Client();
    const pinned = Buffer.from(target.ingressKey.split(' ')[1] ?? '', 'base64');
    const address = `${target.sshHost}:${target.sshPort}`;
    let mismatch = false;
    const onAbort = (): void => void client.destroy();
    signal?.addEventListener('abort', onAbort, { once: true });
    try {
      await new Promise<void>((resolve, reject) => {
        client.once('ready', resolve);
        // Else the end of each full window waits 40 ms for the other side's delayed acknowledgement.
        client.once('connect', () => client.setNoDelay(true));
        // More than one may come (a refusal, then the reset): none may go unheard.
        client.on('error', reject);
        client.once('close', () => reject(new Error('the connection was closed')));
        client.connect({
          host: target.sshHost,
          port: target.sshPort,
          username: transferLogin(this.identity.sourceHostId),
          privateKey: this.privateKey,
          algorithms: sshAlgorithms,
          readyTimeout: this.limits.connectMs,
          keepaliveInterval: this.limits.keepaliveMs,
          keepaliveCountMax: this.limits.keepalivesMissedMax,
          hostVerifier: (key: Buffer) => {
            mismatch = key.length !== pinned.length || !timingSafeEqual(key, pinned);
            return !mismatch;
          },
        });
      });
    } catch (error) {
      client.destroy();
      signal?.throwIfAborted();
      if (mismatch) throw ProxyErrors.HOST_KEY_MISMATCH({ address }, { cause: error });
      throw connectError(error);
    } finally {
      signal?.removeEventListener('abort', onAbort);
    }
    return new TransferConnection(client, this.limits);
  }

  /** One stream over a connection of its own. */
  async send(
    target: TransferTarget,
    item: TransferItem,
    stream: Readable,
    options: SendOptions = {},
  ): Promise<TransferResult> {
    let connection: TransferConnection | undefined;
    try {
      connection = await this.connect(target, options.signal);
      return await connection.send(item, stream, options);
    } finally {
      stream.destroy();
      connection?.close();
    }
  }
}

/** A login at a destination. */
export class TransferConnection {
  private lost: CodedError | undefined;

  constructor(
    private readonly client: Client,
    private readonly limits: SshLimits,
  ) {
    client.on('error', (error) => {
      this.lost = ProxyErrors.TRANSFER_FAILED({ reason: error.message }, { cause: error });
    });
    client.on('close', () => {
      this.lost ??= ProxyErrors.TRANSFER_FAILED({ reason: 'the connection was lost' });
    });
  }

  /** False once it was lost or closed. */
  get isOpen(): boolean {
    return this.lost === undefined;
  }

  /**
   * Sends one stream and waits until the destination has it on disk. When this fails the whole
   * connection is gone, because only that tells the receiver that the stream is not complete.
   * @throws TRANSFER_FAILED, TRANSFER_STALLED (retryable), TRANSFER_REFUSED, or the receiver's own
   */
  async send(
    item: TransferItem,
    stream: Readable,
    options: SendOptions = {},
  ): Promise<TransferResult> {
    const { signal } = options;
    const onAbort = (): void => {
      stream.destroy();
      this.close();
    };
    // A stream that breaks while nobody reads it yet must not bring the process down.
    stream.on('error', () => undefined);
    signal?.addEventListener('abort', onAbort, { once: true });
    try {
      signal?.throwIfAborted();
      if (this.lost) throw this.lost;
      const channel = await this.exec(receiveCommand.format(item.moveId, item.kind, item.name));
      return await new Sending(channel, this.limits, () => this.lost).run(stream, options);
    } catch (error) {
      stream.destroy();
      this.close();
      signal?.throwIfAborted();
      throw error;
    } finally {
      signal?.removeEventListener('abort', onAbort);
    }
  }

  close(): void {
    this.client.destroy();
  }

  private exec(command: string): Promise<ClientChannel> {
    return new Promise((resolve, reject) => {
      const onClose = (): void =>
        reject(this.lost ?? ProxyErrors.TRANSFER_FAILED({ reason: 'closed' }));
      this.client.once('close', onClose);
      this.client.exec(command, (error, channel) => {
        this.client.off('close', onClose);
        if (error)
          reject(ProxyErrors.TRANSFER_REFUSED({ reason: error.message }, { cause: error }));
        else resolve(channel);
      });
    });
  }
}

/** One stream under way. */
class Sending {
  private stdout = '';
  private stderr = '';
  private exit: number | null | undefined;
  private readonly closed: Promise<void>;
  private isClosed = false;

  constructor(
    private readonly channel: ClientChannel,
    private readonly limits: SshLimits,
    private readonly lost: () => CodedError | undefined,
  ) {
    channel.on('error', () => undefined);
    channel.on('data', (chunk: Buffer) => {
      this.stdout = (this.stdout + chunk.toString()).slice(0, answerBytesMax);
    });
    channel.stderr.on('data', (chunk: Buffer) => {
      this.stderr = (this.stderr + chunk.toString()).slice(0, answerBytesMax);
    });
    channel.once('exit', (code: number | null) => (this.exit = code));
    this.closed = new Promise((resolve) => {
      channel.once('close', () => {
        this.isClosed = true;
        resolve();
      });
    });
  }

  async run(stream: Readable, options: SendOptions): Promise<TransferResult> {
    let bytes = 0;
    // A receiver that gives up early need not wait for a slow source's next bytes.
    void this.closed.then(() => stream.destroy());
    // What fails at the source must not look like the stream's end: no EOF is sent then.
    try {
      for await (const chunk of stream as AsyncIterable<Buffer>) {
        if (this.isClosed) break;
        if (!this.channel.write(chunk)) await this.drained();
        bytes += chunk.length;
        options.onProgress?.(bytes);
      }
    } catch (error) {
      if (error instanceof CodedError) throw error;
      if (this.isClosed) return this.result(bytes);
      const reason = error instanceof Error ? error.message : String(error);
      throw ProxyErrors.TRANSFER_FAILED(
        { reason: `reading the source: ${reason}` },
        { cause: error },
      );
    }
    this.channel.end();
    await this.within(this.closed, this.limits.resultMs);
    return this.result(bytes);
  }

  private async drained(): Promise<void> {
    const drain = new Promise<void>((resolve) => this.channel.once('drain', resolve));
    await this.within(Promise.race([drain, this.closed]), this.limits.stallMs);
  }

  private async within(wait: Promise<void>, timeoutMs: number): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const stalled = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(ProxyErrors.TRANSFER_STALLED({ timeoutMs })), timeoutMs);
    });
    try {
      await Promise.race([wait, stalled]);
    } finally {
      clearTimeout(timer);
    }
  }

  private result(bytes: number): TransferResult {
    const answer = this.exit === 0 ? TransferResult.safeParse(parseJson(this.stdout)) : undefined;
    if (answer?.success === true) {
      if (answer.data.bytes === bytes) return answer.data;
      const reason = `${bytes} bytes were sent and ${answer.data.bytes} arrived`;
      throw ProxyErrors.TRANSFER_FAILED({ reason });
    }
    const remote = CodedErrorView.safeParse(parseJson(this.stderr));
    if (remote.success && remote.data.code === 'SSH_COMMAND_REFUSED') {
      throw ProxyErrors.TRANSFER_REFUSED({ reason: remote.data.message });
    }
    if (remote.success) throw new CodedError(remote.data);
    const lost = this.lost();
    throw lost ?? ProxyErrors.TRANSFER_FAILED({ reason: 'the destination gave no result' });
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function connectError(error: unknown): CodedError {
  const { level, message } = error as Error & { level?: string };
  if (level === 'client-authentication') {
    return ProxyErrors.TRANSFER_REFUSED({ reason: 'it does not know this key' }, { cause: error });
  }
  return ProxyErrors.TRANSFER_FAILED({ reason: message }, { cause: error });
}

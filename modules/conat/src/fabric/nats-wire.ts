import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { connect as connectTcp, isIP, type Socket } from 'node:net';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import { credsAuthenticator, nkeyAuthenticator } from '@nats-io/nats-core';
import { CodedError } from '@rookery/core';
import { z } from 'zod';
import type { PublishOp } from '../broker/parser.js';
import { ConatErrors } from '../conat.errors.js';
import { withoutCredentials, type NatsFabricOptions } from './nats-options.js';
import { ServerParser, type ServerSink } from './server-parser.js';

const defaultPort = 4222;

const ServerInfo = z.looseObject({
  headers: z.boolean().default(false),
  max_payload: z.int().min(0),
  nonce: z.string().default(''),
  tls_required: z.boolean().default(false),
  tls_available: z.boolean().default(false),
  jetstream: z.boolean().default(false),
  api_lvl: z.int().optional(),
});
export type ServerInfo = z.output<typeof ServerInfo>;

export interface DialOptions extends NatsFabricOptions {
  /** Shown by the cluster's monitoring. */
  readonly name: string;
  readonly echo: boolean;
  /** What clients of this process may send. */
  readonly payloadBytesMax: number;
}

/** Whoever uses a connection to a node. */
export interface WireOwner {
  message(sid: string, op: PublishOp): void;
  ping(): void;
  pong(): void;
  /** `-ERR`; the connection may go on. */
  error(text: string): void;
  drained(): void;
}

/** One connection to one node, signed in. What is said by whom is the owner's business. */
export class NatsWire implements ServerSink {
  /** Why it ended. */
  readonly ended: Promise<string>;
  /** Something was heard since this was last set to false. */
  alive = true;
  private end!: (reason: string) => void;
  /** What the socket said, or who destroyed it. */
  private problem = '';
  /** What the node said: `-ERR`. */
  private refusal = '';
  private ready = false;
  private parser = new ServerParser(this);
  private infoText: string | null = null;
  private isAnswered = false;
  /** Looks again at what the handshake waits for. */
  private look: (() => void) | null = null;

  private constructor(
    private socket: Socket,
    private readonly owner: WireOwner,
  ) {
    this.ended = new Promise((resolve) => (this.end = resolve));
  }

  /** @throws CONAT_FABRIC_REFUSED, or what the socket said */
  static async dial(
    server: string,
    options: DialOptions,
    owner: WireOwner,
  ): Promise<{ wire: NatsWire; info: ServerInfo }> {
    const { hostname, port } = new URL(server);
    const host = hostname.replace(/^\[|\]$/g, '');
    const socket = connectTcp({ host, port: Number(port) || defaultPort, noDelay: true });
    const wire = new NatsWire(socket, owner);
    const timer = setTimeout(() => wire.destroy('it took too long'), options.connectTimeoutMs);
    try {
      const info = await wire.greet(server, host, options);
      wire.ready = true;
      return { wire, info };
    } catch (error) {
      wire.destroy('given up');
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }

  /** Bytes that the operating system has not taken. */
  get bufferedBytes(): number {
    return this.socket.writableLength;
  }

  /** @param taken called when nobody looks at the frame's bytes any more */
  send(frame: Buffer, taken?: () => void): void {
    this.socket.write(frame, taken);
  }

  /** Closes once everything was sent. */
  finish(): void {
    this.socket.end(() => this.socket.destroy());
  }

  destroy(reason: string): void {
    this.problem ||= reason;
    this.socket.destroy();
  }

  // What the parser found.

  info(json: string): void {
    this.infoText ??= json;
    this.look?.();
  }

  message(sid: string, op: PublishOp): void {
    if (this.ready) this.owner.message(sid, op);
  }

  ping(): void {
    if (this.ready) this.owner.ping();
    else this.socket.write('PONG\r\n');
  }

  pong(): void {
    if (this.ready) this.owner.pong();
    this.isAnswered = true;
    this.look?.();
  }

  error(text: string): void {
    this.refusal = text;
    if (this.ready) this.owner.error(text);
    this.look?.();
  }

  violation(line: string): void {
    this.destroy(`it said what cannot be understood: ${JSON.stringify(line)}`);
  }

  private async greet(server: string, host: string, options: DialOptions): Promise<ServerInfo> {
    this.listen(this.socket);
    await this.when(() => this.infoText !== null);
    const said = ServerInfo.safeParse(JSON.parse(this.infoText!));
    const at = withoutCredentials(server);
    const refuse = (reason: string) => ConatErrors.CONAT_FABRIC_REFUSED({ server: at, reason });
    if (!said.success) throw refuse('it is not a NATS server');
    const info = said.data;
    const secure = server.startsWith('tls:');
    if (secure && !info.tls_required && !info.tls_available) throw refuse('it has no TLS');
    if (!info.headers) throw refuse('it has headers switched off');
    if (info.max_payload < options.payloadBytesMax) {
      throw refuse(`its max_payload is less than ${options.payloadBytesMax} bytes`);
    }
    if (secure || info.tls_required) await this.secure(host, options.caFile);
    const connect = {
      verbose: false,
      pedantic: false,
      headers: true,
      no_responders: true,
      protocol: 1,
      lang: 'conat',
      version: '1',
      name: options.name,
      echo: options.echo,
      ...(await signIn(server, options.credentialsFile, info.nonce)),
    };
    this.socket.write(`CONNECT ${JSON.stringify(connect)}\r\nPING\r\n`);
    await this.when(() => this.isAnswered || this.refusal !== '');
    if (!this.isAnswered) throw refuse(this.refusal);
    return info;
  }

  private listen(socket: Socket | TLSSocket): void {
    this.socket = socket;
    socket.on('data', (chunk: Buffer) => {
      this.alive = true;
      this.parser.feed(chunk);
    });
    socket.on('drain', () => this.owner.drained());
    socket.on('error', (error: Error) => (this.problem ||= error.message));
    socket.on('close', () => {
      this.parser.stop();
      this.end(this.refusal || this.problem || 'it closed the connection');
    });
  }

  /** What came in the clear behind INFO is not believed. */
  private async secure(host: string, caFile: string | undefined): Promise<void> {
    const plain = this.socket;
    plain.removeAllListeners();
    plain.on('error', () => {});
    this.parser.stop();
    this.parser = new ServerParser(this);
    const ca = caFile === undefined ? undefined : await readFile(caFile);
    const socket = connectTls({
      socket: plain,
      ca,
      ...(isIP(host) ? { host } : { servername: host }),
    });
    this.listen(socket);
    await Promise.race([
      once(socket, 'secureConnect'),
      this.ended.then((reason) => Promise.reject(new Error(reason))),
    ]);
  }

  private when(done: () => boolean): Promise<void> {
    return new Promise((resolve, reject) => {
      const settle = (): void => {
        if (!done()) return;
        this.look = null;
        resolve();
      };
      this.look = settle;
      void this.ended.then((reason) => reject(new Error(reason)));
      settle();
    });
  }
}

/** Would another attempt bring the same? */
export const isRefusal = (error: unknown): boolean => CodedError.is(error, 'CONAT_FABRIC_REFUSED');

/** What CONNECT says about who we are; the file is read each time, so that it may change. */
async function signIn(
  server: string,
  credentialsFile: string | undefined,
  nonce: string,
): Promise<object> {
  if (credentialsFile !== undefined) {
    const text = (await readFile(credentialsFile, 'utf8')).trim();
    const bytes = new TextEncoder().encode(text);
    const isPair = text.includes('BEGIN NATS USER JWT');
    return (isPair ? credsAuthenticator(bytes) : nkeyAuthenticator(bytes))(nonce) ?? {};
  }
  const { username, password } = new URL(server);
  if (username === '') return {};
  const user = decodeURIComponent(username);
  return password === '' ? { auth_token: user } : { user, pass: decodeURIComponent(password) };
}

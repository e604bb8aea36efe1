import { backoffMs, CoreErrors, createLogger, SystemClock, type Logger } from '@rookery/core';
import {
  errors,
  nkeyAuthenticator,
  wsconnect,
  type Auth,
  type NatsConnection,
  type Status,
  type WsConnectionOptions,
} from '@nats-io/nats-core';
import type { NatsConnectionImpl } from '@nats-io/nats-core/internal';
import { WebSocket } from 'ws';
import { Broker } from '../broker/broker.js';
import { protocolTexts } from '../broker/protocol-texts.js';
import { inboxPrefixOf } from '../broker/subjects.js';
import { ConatErrors } from '../conat.errors.js';
import { DialSocket, type SocketLike } from './dial-socket.js';
import { MemorySocket } from './memory-socket.js';
import { asWebSocketUrl, TcpSocket } from './tcp-socket.js';

/** How a client proves who it is. */
export type ConatCredentials =
  /** Seed of the identity key (`SU…`): signs the connection's nonce. */
  | { readonly nkeySeed: string }
  /** Shown as it is. */
  | { readonly token: string }
  /** As a NATS server knows them. */
  | { readonly user: string; readonly password: string };

export interface ConatClientOptions {
  /**
   * `ws://…/conat` (also http, https, wss), `nats://…` for TCP, several of one of these, or a
   * broker of this process.
   */
  readonly servers: string | readonly string[] | Broker;
  /** Dials in place of `servers`, which only names them then; asked again at each connect. */
  readonly dial?: (signal: AbortSignal) => Promise<SocketLike>;
  /** The name that the broker will know us by: names the inbox. */
  readonly identity: string;
  /** A function is asked again at each connect, so tokens may be short-lived. */
  readonly credentials?: ConatCredentials | (() => ConatCredentials | Promise<ConatCredentials>);
  /** Shown to the broker's operator. */
  readonly name?: string;
  /** How long `connect` keeps trying; default: for ever. */
  readonly connectTimeoutMs?: number;
  /** With `connectTimeoutMs`: gives up before, when so many dials have failed. */
  readonly connectDialsMax?: number;
  /** Gives the attempt to connect up (CANCELED); a connection that is there goes on. */
  readonly signal?: AbortSignal;
  readonly reconnectFirstMs?: number;
  readonly reconnectMaxMs?: number;
  readonly pingEveryMs?: number;
  readonly onStatus?: (status: ConatClientStatus) => void;
  readonly logger?: Logger;
}

export type ConatClientStatus = 'connected' | 'disconnected' | 'closed';

interface DialState {
  abandoned: boolean;
  lastError: string;
  /** Dials since the last success. */
  failures: number;
  /** Time between two dials; fixed for each, since nats-core asks for it more than once. */
  waitMs: number;
  wasConnected: boolean;
  refused: () => void;
  /** A dial failed before the first connection. */
  dialFailed: () => void;
}

const dialTimeoutMs = 10_000;
const minimumWaitMs = 50;
const drainDeadlineMs = 5_000;

/** A NATS client with our habits: endless reconnects with jitter, fresh credentials each time. */
export class ConatClient {
  private readonly statusListeners = new Set<(status: ConatClientStatus) => void>();
  private readonly refusalListeners = new Set<(subject: string) => void>();
  private current: ConatClientStatus = 'connected';
  /** Subjects served through this client; a second server of one is refused. */
  readonly served = new Set<string>();

  private constructor(
    /** The connection itself, for everything that NATS can do. */
    readonly nats: NatsConnection,
    readonly identity: string,
    private readonly logger: Logger,
  ) {
    void this.watch();
  }

  /**
   * Without `connectTimeoutMs`, waits until a broker takes us.
   * @throws CONAT_UNREACHABLE after `connectTimeoutMs`; CONAT_UNAUTHORIZED
   */
  static async connect(options: ConatClientOptions): Promise<ConatClient> {
    const logger = options.logger ?? createLogger('conat-client', 'warn');
    const url = options.servers instanceof Broker ? 'in-process' : String(options.servers);
    const state: DialState = {
      abandoned: false,
      lastError: '',
      failures: 0,
      waitMs: 0,
      wasConnected: false,
      refused: () => undefined,
      dialFailed: () => undefined,
    };
    const connecting = wsconnect(natsOptions(options, state));
    let timer: NodeJS.Timeout | undefined;
    const givenUp = Promise.withResolvers<never>();
    const onAbort = (): void => givenUp.reject(CoreErrors.CANCELED());
    try {
      if (options.signal?.aborted) onAbort();
      options.signal?.addEventListener('abort', onAbort, { once: true });
      if (options.connectTimeoutMs !== undefined) {
        state.refused = () => givenUp.reject(ConatErrors.CONAT_UNAUTHORIZED({ url }));
        const giveUp = (): void => {
          const reason = state.lastError || 'no answer';
          givenUp.reject(ConatErrors.CONAT_UNREACHABLE({ url, reason }));
        };
        timer = setTimeout(giveUp, options.connectTimeoutMs);
        state.dialFailed = () => {
          if (state.failures >= (options.connectDialsMax ?? Infinity)) giveUp();
        };
      }
      const nats = await Promise.race([connecting, givenUp.promise]);
      state.failures = 0;
      state.wasConnected = true;
      const client = new ConatClient(nats, options.identity, logger);
      client.onStatus((status) => {
        if (status === 'connected') state.failures = 0;
      });
      if (options.onStatus) client.onStatus(options.onStatus);
      return client;
    } catch (error) {
      state.abandoned = true;
      connecting.then(
        (late) => late.close(),
        () => undefined,
      );
      throw error;
    } finally {
      options.signal?.removeEventListener('abort', onAbort);
      clearTimeout(timer);
    }
  }

  get status(): ConatClientStatus {
    return this.current;
  }

  /** @returns a function that ends it */
  onStatus(listener: (status: ConatClientStatus) => void): () => void {
    this.statusListeners.add(listener);
    return () => this.statusListeners.delete(listener);
  }

  /**
   * Hears of subjects that the broker did not let us publish to: it answers a publication in no
   * other way, and its sender would wait in vain.
   * @returns a function that ends it
   */
  onPublishRefused(listener: (subject: string) => void): () => void {
    this.refusalListeners.add(listener);
    return () => this.refusalListeners.delete(listener);
  }

  /** Subscriptions, without the one for the answers to requests. */
  get listening(): number {
    const { subscriptions } = (this.nats as NatsConnectionImpl).protocol;
    return subscriptions.size() - (subscriptions.getMux() ? 1 : 0);
  }

  /** Lets what is under way arrive, then closes; what hangs is cut after a few seconds. */
  async close(): Promise<void> {
    if (this.nats.isClosed()) return;
    if (this.current === 'connected' && !this.nats.isDraining()) {
      let timer: NodeJS.Timeout | undefined;
      const deadline = new Promise<void>((resolve) => {
        timer = setTimeout(resolve, drainDeadlineMs);
      });
      await Promise.race([this.nats.drain().catch(() => undefined), deadline]);
      clearTimeout(timer);
    }
    if (!this.nats.isClosed()) await this.nats.close();
  }

  private async watch(): Promise<void> {
    for await (const status of this.nats.status()) this.note(status);
    this.set('closed');
  }

  private note(status: Status): void {
    switch (status.type) {
      case 'disconnect':
        this.set('disconnected');
        break;
      case 'reconnect':
        this.set('connected');
        break;
      case 'error':
        this.noteRefusal(status.error);
        this.logger.warn({ err: status.error }, 'the broker reports an error');
        break;
      default:
        break;
    }
  }

  private noteRefusal(error: Error): void {
    if (!(error instanceof errors.PermissionViolationError)) return;
    if (error.operation !== 'publish') return;
    for (const listener of this.refusalListeners) listener(error.subject);
  }

  private set(status: ConatClientStatus): void {
    if (this.current === status) return;
    this.current = status;
    for (const listener of this.statusListeners) listener(status);
  }
}

function natsOptions(options: ConatClientOptions, state: DialState): WsConnectionOptions {
  const { servers, credentials } = options;
  const backoff = {
    firstMs: options.reconnectFirstMs ?? 200,
    maxMs: options.reconnectMaxMs ?? 5_000,
  };
  const clock = new SystemClock();
  const overTcp = !(servers instanceof Broker) && [servers].flat().every(isNatsUrl);
  let current: ConatCredentials | undefined;
  const dial = async (url: string, signal: AbortSignal): Promise<SocketLike> => {
    // nats-core's first dial after a loss waits for nothing: a herd must not come back at once.
    if (state.wasConnected && state.failures === 0)
      await clock.delay(backoffMs(0, backoff), signal);
    state.waitMs = minimumWaitMs + backoffMs(state.failures, backoff);
    state.failures += 1;
    current = typeof credentials === 'function' ? await credentials() : credentials;
    if (servers instanceof Broker) return new MemorySocket(servers);
    if (options.dial) return options.dial(signal);
    if (overTcp) {
      return new TcpSocket(url, {
        timeoutMs: dialTimeoutMs,
        onRefused: () => state.refused(),
        onError: (error) => noteFailure(state, error),
      });
    }
    const socket = new WebSocket(url, {
      perMessageDeflate: false,
      handshakeTimeout: dialTimeoutMs,
    });
    // nats-core takes its listeners off early; an error without listener would end the process.
    socket.on('error', (error) => noteFailure(state, error));
    socket.once('close', (_code, reason) => {
      if (reason.toString() === protocolTexts.authorizationViolation) state.refused();
    });
    return socket as unknown as SocketLike;
  };
  return {
    servers: servers instanceof Broker ? ['ws://in-process:1'] : urls(servers),
    name: options.name ?? options.identity,
    inboxPrefix: inboxPrefixOf(options.identity).slice(0, -1),
    authenticator: (nonce?: string) => authOf(current, nonce),
    wsFactory: async (url: string) => ({
      socket: new DialSocket((signal) => dial(url, signal)) as unknown as globalThis.WebSocket,
      encrypted: url.startsWith('wss:'),
    }),
    timeout: dialTimeoutMs,
    maxReconnectAttempts: -1,
    waitOnFirstConnect: true,
    ignoreAuthErrorAbort: true,
    ignoreClusterUpdates: true,
    pingInterval: options.pingEveryMs ?? 15_000,
    maxPingOut: 2,
    reconnectDelayHandler: () => state.waitMs,
    // The only place where nats-core's first connect can be told to stop.
    reconnectToServer: () => {
      if (state.abandoned) throw new Error('given up');
      return null;
    },
  };
}

function noteFailure(state: DialState, error: Error): void {
  state.lastError = error.message;
  if (!state.wasConnected) state.dialFailed();
}

function authOf(credentials: ConatCredentials | undefined, nonce?: string): Auth {
  if (!credentials) return {} as Auth;
  if ('nkeySeed' in credentials) {
    return nkeyAuthenticator(new TextEncoder().encode(credentials.nkeySeed))(nonce);
  }
  if ('user' in credentials) return { user: credentials.user, pass: credentials.password };
  return { auth_token: credentials.token };
}

function urls(servers: string | readonly string[]): string[] {
  const list = typeof servers === 'string' ? [servers] : servers;
  return list.map((server) =>
    isNatsUrl(server) ? asWebSocketUrl(server) : server.replace(/^http(s?):/, 'ws$1:'),
  );
}

const isNatsUrl = (url: string): boolean => url.startsWith('nats:');

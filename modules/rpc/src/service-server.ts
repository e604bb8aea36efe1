import {
  abortedBy,
  CoreErrors,
  createLogger,
  parseInput,
  toCodedError,
  type CodedError,
  type Logger,
} from '@rookery/core';
import type { CallContext, Handlers, ServiceContract } from './contract/service.js';
import type { Msg, Subscription } from '@nats-io/nats-core';
import type { ConatClient } from '@rookery/conat';
import { RpcErrors } from './rpc.errors.js';
import { publish } from './channel.js';
import { deadlines } from './deadline.js';
import { DuplexServer } from './duplex-server.js';
import { JobServer } from './job-server.js';
import { ListedService, listService } from './service-directory.js';
import { StreamServer } from './stream-server.js';
import type { ServiceRequest } from './service-request.js';
import { serviceLimits, type ServiceLimits } from './service-limits.js';
import {
  callerOf,
  decodeJson,
  encodeError,
  encodeOutput,
  errorHeaders,
  paramsOfSubject,
  prefixSubject,
  wireHeaders,
} from './wire.js';

export interface ServeOptions {
  /** Values of the contract's subject parameters. */
  readonly params?: Readonly<Record<string, string>>;
  /** Parameters that are served whatever their value; handlers find it in `context.params`. */
  readonly wildcardParams?: readonly string[];
  /** Servers of one group share the requests. Default: one group a contract. */
  readonly queue?: string;
  readonly logger?: Logger;
  readonly limits?: Partial<ServiceLimits>;
}

type AnyHandler = (input: unknown, context: CallContext) => Promise<unknown>;
type AnyStreamHandler = (input: unknown, context: CallContext) => AsyncIterable<unknown>;

/** A contract's server. Made by {@link serve}. */
export class ServiceServer {
  private readonly controller = new AbortController();
  private readonly running = new Set<Promise<void>>();
  private readonly jobs: JobServer;
  private readonly streams: StreamServer;
  private readonly duplexes: DuplexServer;
  private readonly listed: ListedService;
  private unlist: () => void = () => undefined;
  private subscription: Subscription | null = null;
  private refusal: Error | null = null;
  private closing: Promise<void> | null = null;

  constructor(
    private readonly client: ConatClient,
    private readonly contract: ServiceContract,
    private readonly handlers: Readonly<Record<string, AnyHandler>>,
    private readonly options: ServeOptions,
    private readonly prefix: string,
    private readonly limits: ServiceLimits,
    private readonly logger: Logger,
  ) {
    this.jobs = new JobServer(client, limits, logger);
    this.streams = new StreamServer(client, limits, logger);
    this.duplexes = new DuplexServer(client, limits, logger);
    this.listed = new ListedService(contract, prefix, this.queue);
  }

  /** @throws SERVICE_INCOMPLETE when the broker does not let us listen */
  async start(): Promise<void> {
    const { client, contract } = this;
    this.subscription = client.nats.subscribe(`${this.prefix}.*`, {
      queue: this.queue,
      callback: (error, message) => {
        if (error) this.refuse(error);
        else this.receive(message);
      },
    });
    await client.nats.flush();
    const { refusal } = this;
    if (refusal) {
      const reason = refusal.message;
      throw RpcErrors.SERVICE_INCOMPLETE({ prefix: contract.prefix, reason }, { cause: refusal });
    }
    this.unlist = listService(client, this.listed);
  }

  private get queue(): string {
    return this.options.queue ?? 'rookery';
  }

  /** Takes no more requests, aborts what runs, and waits for it, for a bounded time. */
  close(deadlineMs = this.limits.closeDeadlineMs): Promise<void> {
    return (this.closing ??= this.doClose(deadlineMs));
  }

  private async doClose(deadlineMs: number): Promise<void> {
    this.client.served.delete(this.prefix);
    this.unlist();
    if (!this.client.nats.isClosed()) this.subscription?.unsubscribe();
    const stopping = CoreErrors.INTERRUPTED({ reason: `${this.prefix} is being stopped` });
    this.controller.abort(stopping);
    this.jobs.abort(stopping);
    this.streams.abort();
    this.duplexes.abort();
    const all = Promise.all([
      ...this.running,
      this.jobs.settled(),
      this.streams.settled(),
      this.duplexes.settled(),
    ]);
    let timer: NodeJS.Timeout | undefined;
    const deadline = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, deadlineMs);
    });
    await Promise.race([all.then(() => undefined), deadline]);
    clearTimeout(timer);
    this.jobs.close();
    this.duplexes.close();
    if (this.client.status === 'connected' && !this.client.nats.isClosed()) {
      await this.client.nats.flush().catch(() => undefined);
    }
  }

  private refuse(error: Error): void {
    this.refusal = error;
    this.logger.error({ err: error, prefix: this.prefix }, 'the service may not listen');
  }

  private receive(message: Msg): void {
    // Without a reply there is nobody to serve: a broadcast that only looks like one of ours.
    const caller = callerOf(message.reply);
    if (caller === undefined) return;
    try {
      const request = this.parse(message, caller);
      if (request) this.dispatch(request);
    } catch (error) {
      this.answerError(message, toCodedError(error));
    }
  }

  private parse(message: Msg, caller: string): ServiceRequest | null {
    const { contract } = this;
    const { subject } = message;
    const name = subject.slice(subject.lastIndexOf('.') + 1);
    const method = Object.hasOwn(contract.methods, name) ? contract.methods[name] : undefined;
    if (!method) {
      throw RpcErrors.SERVICE_UNKNOWN_METHOD({ prefix: contract.prefix, method: name });
    }
    const asked = message.headers?.get(wireHeaders.version) ?? '';
    if (asked !== '' && asked !== String(contract.version)) {
      throw RpcErrors.SERVICE_VERSION_MISMATCH({ subject, served: contract.version, asked });
    }
    const params = paramsOfSubject(contract.prefix, subject);
    if (method.kind === 'job' && message.headers?.has(wireHeaders.attach)) {
      this.jobs.attach(message);
      return null;
    }
    const input: unknown = parseInput(method.input, this.decode(message));
    return { method, subject, message, params, caller, input };
  }

  private decode(message: Msg): unknown {
    try {
      return decodeJson(message.data);
    } catch {
      return undefined; // the schema then says what it wants
    }
  }

  private dispatch(request: ServiceRequest): void {
    const { method, subject } = request;
    const name = subject.slice(subject.lastIndexOf('.') + 1);
    const handler = this.handlers[name]!;
    const beganMs = performance.now();
    const counted = (error?: Error): void =>
      this.listed.count(name, performance.now() - beganMs, error);
    switch (method.kind) {
      case 'call':
        this.track(this.call(request, handler).then(counted));
        break;
      case 'job':
        this.jobs.start(request, watched(handler, counted));
        break;
      case 'stream':
        this.streams.start(request, handler as unknown as AnyStreamHandler, counted);
        break;
      case 'duplex':
        this.duplexes.start(request, watched(handler, counted));
        break;
    }
  }

  private track(work: Promise<void>): void {
    this.running.add(work);
    void work.finally(() => this.running.delete(work));
  }

  /** @returns what it failed with, if it did */
  private async call(
    request: ServiceRequest,
    handler: AnyHandler,
  ): Promise<CodedError | undefined> {
    const { message, method, subject, params, caller, input } = request;
    if (this.running.size >= this.limits.sessionsMax) {
      const busy = RpcErrors.SERVICE_BUSY({ subject, limit: this.limits.sessionsMax });
      throwLater(() => this.answerError(message, busy));
      return busy;
    }
    const timeoutMs = Number(message.headers?.get(wireHeaders.timeout)) || Infinity;
    try {
      const signal = signalWithin(this.controller.signal, timeoutMs);
      const output = await deadlines.within(Date.now() + timeoutMs, () =>
        handler(input, { params, caller, signal }),
      );
      publish(this.client, message.reply!, encodeOutput(method, output, subject));
      return undefined;
    } catch (error) {
      // Whatever ended it while we stop, the caller shall ask again.
      const { signal } = this.controller;
      const coded = signal.aborted ? abortedBy(signal, error) : this.noted(error, subject);
      this.answerError(message, coded);
      return coded;
    }
  }

  private noted(error: unknown, subject: string): CodedError {
    const coded = toCodedError(error);
    if (coded.status >= 500) this.logger.error({ err: error, subject }, 'a service call failed');
    return coded;
  }

  private answerError(message: Msg, error: CodedError): void {
    if (!message.reply) return;
    try {
      publish(this.client, message.reply, encodeError(error), { headers: errorHeaders(error) });
    } catch (lost) {
      this.logger.warn({ err: lost, subject: message.subject }, 'an error could not be answered');
    }
  }
}

/** Aborts also when the caller waits no longer. */
const signalWithin = (signal: AbortSignal, timeoutMs: number): AbortSignal =>
  timeoutMs > 2 ** 31 - 1 ? signal : AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]);

/** The handler, with a look at how it ended. */
function watched<C extends CallContext>(
  handler: (input: unknown, context: C) => Promise<unknown>,
  ended: (error?: Error) => void,
): (input: unknown, context: C) => Promise<unknown> {
  return async (input, context) => {
    try {
      const output = await handler(input, context);
      ended();
      return output;
    } catch (error) {
      ended(toCodedError(error));
      throw error;
    }
  };
}

/** Answers stay asynchronous also when nothing was done. */
const throwLater = (task: () => void): void => void setImmediate(task);

/**
 * Serves a contract. The compiler sees to it that no handler is missing; what it cannot see (an
 * untyped caller, a second server of the same subjects on this client) is refused here.
 * @throws SERVICE_INCOMPLETE
 */
export async function serve<C extends ServiceContract>(
  client: ConatClient,
  contract: C,
  handlers: Handlers<C>,
  options: ServeOptions = {},
): Promise<ServiceServer> {
  const logger = options.logger ?? createLogger('conat-service', 'warn');
  const names = Object.keys(contract.methods);
  const given = Object.keys(handlers).filter(
    (name) => typeof (handlers as Record<string, unknown>)[name] === 'function',
  );
  const missing = names.filter((name) => !given.includes(name));
  const unknown = given.filter((name) => !names.includes(name));
  if (missing.length > 0 || unknown.length > 0) {
    const reason = [
      ...missing.map((name) => `${name} has no handler`),
      ...unknown.map((name) => `${name} is not in the contract`),
    ].join(', ');
    throw RpcErrors.SERVICE_INCOMPLETE({ prefix: contract.prefix, reason });
  }
  const prefix = prefixSubject(contract, options.params ?? {}, options.wildcardParams ?? []);
  if (client.served.has(prefix)) {
    const reason = `${prefix} has a server in this process already`;
    throw RpcErrors.SERVICE_INCOMPLETE({ prefix: contract.prefix, reason });
  }
  client.served.add(prefix);
  const server = new ServiceServer(
    client,
    contract,
    handlers as unknown as Readonly<Record<string, AnyHandler>>,
    options,
    prefix,
    { ...serviceLimits, ...options.limits },
    logger,
  );
  try {
    await server.start();
    return server;
  } catch (error) {
    await server.close(0);
    throw error;
  }
}

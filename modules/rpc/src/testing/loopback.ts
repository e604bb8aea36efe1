import { PassThrough } from 'node:stream';
import { CoreErrors, parseInput, toCodedError } from '@rookery/core';
import type {
  CallOptions,
  DuplexCall,
  DuplexContext,
  Handlers,
  JobContext,
  JobOptions,
  Method,
  ServiceClient,
  ServiceContract,
  StreamOptions,
} from '../contract/service.js';

type AnyHandler = (input: unknown, context: unknown) => Promise<unknown>;

export interface LoopbackOptions {
  readonly params?: Readonly<Record<string, string>>;
  /** Who the handlers think is calling. */
  readonly caller?: string;
}

/**
 * A client whose calls go straight to the handlers: same schemas (values are copied as JSON would),
 * same coded errors, no broker. For unit tests of what is built on a service.
 */
export function loopback<C extends ServiceContract>(
  contract: C,
  handlers: Handlers<C>,
  options: LoopbackOptions = {},
): ServiceClient<C> {
  const context = { params: options.params ?? {}, caller: options.caller ?? 'hub' };
  const client: Record<string, unknown> = {};
  for (const [name, method] of Object.entries(contract.methods)) {
    const handler = (handlers as unknown as Record<string, AnyHandler>)[name]!;
    if (method.kind === 'stream') {
      client[name] = (input: unknown, streamOptions: StreamOptions = {}) =>
        streamed(
          method,
          handler,
          parseInput(method.input, throughJson(input)),
          context,
          streamOptions,
        );
      continue;
    }
    client[name] = async (input: unknown, callOptions: CallOptions & JobOptions = {}) => {
      const parsed: unknown = parseInput(method.input, throughJson(input));
      if (method.kind === 'duplex')
        return duplexCall(method, handler, parsed, context, callOptions);
      const full: JobContext = {
        ...context,
        signal: callOptions.signal ?? new AbortController().signal,
        progress: (progress) => callOptions.onProgress?.(progress),
      };
      return answer(method, () => handler(parsed, full), full.signal);
    };
  }
  return client as ServiceClient<C>;
}

async function* streamed(
  method: Method,
  handler: AnyHandler,
  input: unknown,
  context: { params: Readonly<Record<string, string>>; caller: string },
  options: StreamOptions,
): AsyncGenerator<unknown, void, undefined> {
  const signal = options.signal ?? new AbortController().signal;
  try {
    const items = handler(input, { ...context, signal }) as unknown as AsyncIterable<unknown>;
    for await (const item of items) {
      if (signal.aborted) throw CoreErrors.CANCELED();
      yield method.output.parse(throughJson(item));
    }
  } catch (error) {
    throw toCodedError(error);
  }
}

async function answer(
  method: Method,
  run: () => Promise<unknown>,
  signal: AbortSignal,
): Promise<unknown> {
  if (signal.aborted) throw CoreErrors.CANCELED();
  try {
    return method.output.parse(throughJson(await run()));
  } catch (error) {
    throw toCodedError(error);
  }
}

function duplexCall(
  method: Method,
  handler: AnyHandler,
  input: unknown,
  context: { params: Readonly<Record<string, string>>; caller: string },
  options: CallOptions,
): DuplexCall<unknown, unknown> {
  const controller = new AbortController();
  const [stdin, stdout, stderr] = [new PassThrough(), new PassThrough(), new PassThrough()];
  const listeners = new Set<(message: unknown) => void>();
  const served: DuplexContext<unknown> = {
    ...context,
    signal: controller.signal,
    stdin,
    stdout,
    stderr,
    onControl: (listener) => listeners.add(listener),
  };
  const result = answer(method, () => handler(input, served), controller.signal).finally(() => {
    stdout.end();
    stderr.end();
  });
  result.catch(() => undefined);
  options.signal?.addEventListener('abort', () => controller.abort(), { once: true });
  return {
    stdin,
    stdout,
    stderr,
    result,
    control: (message) => {
      const parsed: unknown = method.kind === 'duplex' ? method.control.parse(message) : message;
      for (const listener of listeners) listener(parsed);
    },
    cancel: () => controller.abort(),
  };
}

const throughJson = (value: unknown): unknown =>
  value === undefined ? undefined : JSON.parse(JSON.stringify(value));

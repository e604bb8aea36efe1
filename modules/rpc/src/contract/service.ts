import type { Readable, Writable } from 'node:stream';
import type { z } from 'zod';
import type { Progress } from '@rookery/core/contract';

/**
 * Typed services over conat. A contract is data: it names a subject prefix with `{parameters}`, a
 * version, and methods of four kinds. Servers and clients are made from it by `@rookery/rpc`.
 *
 * - `call`: one request, one reply, within seconds.
 * - `job`: long work. Progress and heartbeats stream to the caller; a repeated request with equal
 *   fence joins the work under way, so a lost reply costs nothing.
 * - `stream`: many replies, one after the other, no faster than they are read.
 * - `duplex`: bytes both ways with credit-based flow control (exec, logs), ended by one result.
 */
export interface CallMethod<I extends z.ZodType, O extends z.ZodType> {
  readonly kind: 'call';
  readonly input: I;
  readonly output: O;
  /** How long a caller waits. */
  readonly timeoutMs: number;
  /** True when repeating the call does no harm. */
  readonly idempotent: boolean;
}

export interface JobMethod<I extends z.ZodType, O extends z.ZodType> {
  readonly kind: 'job';
  readonly input: I;
  readonly output: O;
  /** The caller gives up after this long without progress or heartbeat. */
  readonly silenceMs: number;
}

export interface StreamMethod<I extends z.ZodType, O extends z.ZodType> {
  readonly kind: 'stream';
  readonly input: I;
  /** One of the replies. */
  readonly output: O;
}

export interface DuplexMethod<I extends z.ZodType, O extends z.ZodType, C extends z.ZodType> {
  readonly kind: 'duplex';
  readonly input: I;
  readonly output: O;
  /** Messages from the caller beside the bytes: window size, signal. */
  readonly control: C;
}

export type Method =
  | CallMethod<z.ZodType, z.ZodType>
  | JobMethod<z.ZodType, z.ZodType>
  | StreamMethod<z.ZodType, z.ZodType>
  | DuplexMethod<z.ZodType, z.ZodType, z.ZodType>;

export function call<I extends z.ZodType, O extends z.ZodType>(
  input: I,
  output: O,
  options: { timeoutMs?: number; idempotent?: boolean } = {},
): CallMethod<I, O> {
  const { timeoutMs = 10_000, idempotent = false } = options;
  return { kind: 'call', input, output, timeoutMs, idempotent };
}

export function job<I extends z.ZodType, O extends z.ZodType>(
  input: I,
  output: O,
  options: { silenceMs?: number } = {},
): JobMethod<I, O> {
  return { kind: 'job', input, output, silenceMs: options.silenceMs ?? 20_000 };
}

export function stream<I extends z.ZodType, O extends z.ZodType>(
  input: I,
  output: O,
): StreamMethod<I, O> {
  return { kind: 'stream', input, output };
}

export function duplex<I extends z.ZodType, O extends z.ZodType, C extends z.ZodType>(
  input: I,
  output: O,
  control: C,
): DuplexMethod<I, O, C> {
  return { kind: 'duplex', input, output, control };
}

export interface ServiceContract<
  S extends string = string,
  M extends Record<string, Method> = Record<string, Method>,
> {
  /** Subject prefix such as `host.{hostId}.projects`; a method's name is appended. */
  readonly prefix: S;
  readonly version: number;
  readonly methods: M;
}

export function service<const S extends string, const M extends Record<string, Method>>(
  prefix: S,
  options: { version: number },
  methods: M,
): ServiceContract<S, M> {
  return { prefix, version: options.version, methods };
}

/** `host.{hostId}.projects` → `{ hostId: string }`. */
export type ParamsOf<S extends string> = S extends `${string}{${infer P}}${infer Rest}`
  ? { readonly [K in P]: string } & ParamsOf<Rest>
  : unknown;

/** A service's subject; parameters that are not single tokens are refused. */
export function subjectOf(
  contract: ServiceContract,
  method: string,
  params: Readonly<Record<string, string>>,
): string {
  const prefix = contract.prefix.replace(/\{(\w+)\}/g, (_, key: string) => {
    const value = params[key];
    if (value === undefined || !/^[^\s.*>]+$/.test(value)) {
      throw new TypeError(`subject parameter ${key} must be one token, got ${String(value)}`);
    }
    return value;
  });
  return `${prefix}.${method}`;
}

export interface CallContext {
  /** Parameters taken from the subject. */
  readonly params: Readonly<Record<string, string>>;
  /**
   * Who asks, as the broker authenticated it: the identity in the reply inbox (one subject token).
   * The broker refuses a publish whose reply lies in somebody else's inbox.
   */
  readonly caller: string;
  /**
   * Aborted when the caller cancels, goes away or waits no longer, and when the server shuts down.
   * Calls that a handler makes do not outlive the time that its own caller gave.
   */
  readonly signal: AbortSignal;
}

export interface JobContext extends CallContext {
  progress(progress: Progress): void;
}

export interface DuplexContext<C> extends CallContext {
  /** Bytes from the caller; ends when the caller closes its side. */
  readonly stdin: Readable;
  /** Backpressure reaches through to the caller's reader. */
  readonly stdout: Writable;
  readonly stderr: Writable;
  onControl(listener: (message: C) => void): void;
}

/** What a server of a contract must provide; the compiler checks that no method is missing. */
export type Handlers<C extends ServiceContract> = {
  readonly [K in keyof C['methods']]: HandlerOf<C['methods'][K]>;
};

export type HandlerOf<M> =
  M extends DuplexMethod<infer I, infer O, infer C>
    ? (input: z.output<I>, context: DuplexContext<z.output<C>>) => Promise<z.input<O>>
    : M extends JobMethod<infer I, infer O>
      ? (input: z.output<I>, context: JobContext) => Promise<z.input<O>>
      : M extends StreamMethod<infer I, infer O>
        ? (input: z.output<I>, context: CallContext) => AsyncIterable<z.input<O>>
        : M extends CallMethod<infer I, infer O>
          ? (input: z.output<I>, context: CallContext) => Promise<z.input<O>>
          : never;

/** What a caller of a contract gets. */
export type ServiceClient<C extends ServiceContract> = {
  readonly [K in keyof C['methods']]: ClientMethodOf<C['methods'][K]>;
};

export interface CallOptions {
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
}

export interface StreamOptions {
  /** Ends the stream on both sides. */
  readonly signal?: AbortSignal;
}

export interface JobOptions {
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: Progress) => void;
}

export interface DuplexCall<O, C> {
  readonly stdin: Writable;
  readonly stdout: Readable;
  readonly stderr: Readable;
  control(message: C): void;
  /** The final result; rejects with the server's coded error. */
  readonly result: Promise<O>;
  /** Ends both sides; the server's signal aborts. */
  cancel(): void;
}

export type ClientMethodOf<M> =
  M extends DuplexMethod<infer I, infer O, infer C>
    ? (input: z.input<I>, options?: CallOptions) => Promise<DuplexCall<z.output<O>, z.input<C>>>
    : M extends JobMethod<infer I, infer O>
      ? (input: z.input<I>, options?: JobOptions) => Promise<z.output<O>>
      : M extends StreamMethod<infer I, infer O>
        ? (input: z.input<I>, options?: StreamOptions) => AsyncIterable<z.output<O>>
        : M extends CallMethod<infer I, infer O>
          ? (input: z.input<I>, options?: CallOptions) => Promise<z.output<O>>
          : never;

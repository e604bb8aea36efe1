import { CodedError, toCodedError } from '@rookery/core';
import { CodedErrorView } from '@rookery/core/contract';
import type { Method, ServiceContract } from './contract/service.js';
import { headers, type Msg, type MsgHdrs } from '@nats-io/nats-core';
import { z } from 'zod';
import { RpcErrors } from './rpc.errors.js';

/** How services look on the wire: JSON bodies, these headers. Errors as NATS micro services do. */
export const wireHeaders = {
  version: 'Rookery-Version',
  run: 'Rookery-Run',
  /** Only join a run that is known; never start one. */
  attach: 'Rookery-Attach',
  type: 'Rookery-Type',
  /** Milliseconds that the caller waits. */
  timeout: 'Rookery-Timeout-Ms',
  /** Of a stream: the number of this reply, counted from 1. */
  sequence: 'Rookery-Sequence',
  /** Of a stream: replies that the caller is done with. */
  taken: 'Rookery-Taken',
  error: 'Nats-Service-Error',
  errorCode: 'Nats-Service-Error-Code',
} as const;

/** What a server tells the caller of a job, stream or duplex call, and what that one answers. */
export type MessageType =
  'accepted' | 'progress' | 'item' | 'heartbeat' | 'result' | 'end' | 'renew' | 'cancel' | 'bye';

export const encodeJson = (value: unknown): Uint8Array =>
  Buffer.from(JSON.stringify(value === undefined ? null : value));

export function decodeJson(data: Uint8Array): unknown {
  return JSON.parse(Buffer.from(data.buffer, data.byteOffset, data.byteLength).toString('utf8'));
}

export function typed(type: MessageType): MsgHdrs {
  const hdrs = headers();
  hdrs.set(wireHeaders.type, type);
  return hdrs;
}

export function errorHeaders(error: CodedError, type?: MessageType): MsgHdrs {
  const hdrs = type ? typed(type) : headers();
  hdrs.set(wireHeaders.error, error.code);
  hdrs.set(wireHeaders.errorCode, String(error.status));
  return hdrs;
}

export const encodeError = (error: CodedError): Uint8Array => encodeJson(error.toJSON());

/** The error that a reply carries, if it carries one. */
export function errorOf(message: Msg, subject: string): CodedError | undefined {
  if (!message.headers?.has(wireHeaders.error)) return undefined;
  return decodeError(message.data, subject);
}

export function decodeError(data: Uint8Array, subject: string): CodedError {
  try {
    return new CodedError(CodedErrorView.parse(decodeJson(data)));
  } catch (error) {
    return replyInvalid(subject, error);
  }
}

export const isNoResponders = (message: Msg): boolean =>
  message.data.length === 0 && message.headers?.code === 503;

/** Parses what a server answered. @throws SERVICE_REPLY_INVALID */
export function parseOutput<T extends z.ZodType>(
  schema: T,
  data: Uint8Array,
  subject: string,
): z.output<T> {
  try {
    return schema.parse(decodeJson(data));
  } catch (error) {
    throw replyInvalid(subject, error);
  }
}

/** Checks what a handler gives back and encodes it as it is: the caller's schema transforms it. */
export function encodeOutput(method: Method, value: unknown, subject: string): Uint8Array {
  const checked = method.output.safeParse(value);
  if (!checked.success) throw replyInvalid(subject, checked.error);
  return encodeJson(value);
}

function replyInvalid(subject: string, error: unknown): CodedError {
  const reason =
    error instanceof z.ZodError
      ? error.issues.map((issue) => `${issue.path.join('.')}: ${issue.message}`).join('; ')
      : toCodedError(error).message;
  return RpcErrors.SERVICE_REPLY_INVALID({ subject, reason }, { cause: error });
}

/** The identity in a reply inbox; the broker let nobody name another's. */
export function callerOf(reply: string | undefined): string | undefined {
  return /^_INBOX\.([^.]+)\../.exec(reply ?? '')?.[1];
}

/** `host.{hostId}.projects` with the parameters filled in; wildcard ones become `*`. */
export function prefixSubject(
  contract: ServiceContract,
  params: Readonly<Record<string, string>>,
  wildcards: readonly string[],
): string {
  return contract.prefix.replace(/\{(\w+)\}/g, (_, key: string) => {
    if (wildcards.includes(key)) return '*';
    const value = params[key];
    if (value === undefined || !/^[^\s.*>]+$/.test(value)) {
      throw RpcErrors.SERVICE_INCOMPLETE({
        prefix: contract.prefix,
        reason: `the subject parameter ${key} must be one token, got ${String(value)}`,
      });
    }
    return value;
  });
}

/** Takes a contract's parameters out of a subject that a message came on. */
export function paramsOfSubject(prefix: string, subject: string): Record<string, string> {
  const tokens = subject.split('.');
  const params: Record<string, string> = {};
  prefix.split('.').forEach((part, i) => {
    const key = /^\{(\w+)\}$/.exec(part)?.[1];
    if (key !== undefined) params[key] = tokens[i] ?? '';
  });
  return params;
}

import { CoreErrors, parseInput } from '@rookery/core';
import {
  subjectOf,
  type CallMethod,
  type CallOptions,
  type DuplexMethod,
  type JobMethod,
  type JobOptions,
  type ParamsOf,
  type ServiceClient,
  type ServiceContract,
  type StreamMethod,
  type StreamOptions,
} from './contract/service.js';
import { headers, type MsgHdrs } from '@nats-io/nats-core';
import type { z } from 'zod';
import type { ConatClient } from '@rookery/conat';
import { RpcErrors } from './rpc.errors.js';
import { checkSize } from './channel.js';
import { openDuplex } from './duplex-client.js';
import { runJob } from './job-client.js';
import { readStream } from './stream-client.js';
import { deadlines } from './deadline.js';
import { requestError } from './request-error.js';
import { serviceLimits, type ServiceLimits } from './service-limits.js';
import type { Target } from './service-target.js';
import { encodeJson, errorOf, parseOutput, wireHeaders } from './wire.js';

/** Makes a contract's client. Methods throw the server's coded errors and those of `conat`. */
export function createServiceClient<C extends ServiceContract>(
  client: ConatClient,
  contract: C,
  params: ParamsOf<C['prefix']>,
  limits: Partial<ServiceLimits> = {},
): ServiceClient<C> {
  const methods: Record<string, unknown> = {};
  const allLimits = { ...serviceLimits, ...limits };
  for (const [name, method] of Object.entries(contract.methods)) {
    const subject = subjectOf(contract, name, params as Readonly<Record<string, string>>);
    const target = <M extends typeof method>(of: M, input: unknown): Target<M> => ({
      client,
      subject,
      method: of,
      headers: versionHeaders(contract),
      // Parsed here as well, so that a wrong call fails at its caller; sent as it was given.
      body: (parseInput(of.input, input), encodeJson(input)),
      limits: allLimits,
    });
    switch (method.kind) {
      case 'call':
        methods[name] = async (input: unknown, options?: CallOptions) =>
          callOnce(target(method, input), options);
        break;
      case 'job':
        methods[name] = async (input: unknown, options?: JobOptions) =>
          runJob(target(method as JobMethod<z.ZodType, z.ZodType>, input), options);
        break;
      case 'stream':
        methods[name] = (input: unknown, options?: StreamOptions) =>
          readStream(target(method as StreamMethod<z.ZodType, z.ZodType>, input), options);
        break;
      case 'duplex':
        methods[name] = async (input: unknown, options?: CallOptions) =>
          openDuplex(
            target(method as DuplexMethod<z.ZodType, z.ZodType, z.ZodType>, input),
            options,
          );
        break;
    }
  }
  return methods as ServiceClient<C>;
}

function versionHeaders(contract: ServiceContract): MsgHdrs {
  const hdrs = headers();
  hdrs.set(wireHeaders.version, String(contract.version));
  return hdrs;
}

async function callOnce(
  target: Target<CallMethod<z.ZodType, z.ZodType>>,
  options: CallOptions = {},
): Promise<unknown> {
  const { client, subject, method, body } = target;
  const timeoutMs = Math.ceil(deadlines.leftMs(options.timeoutMs ?? method.timeoutMs));
  options.signal?.throwIfAborted();
  if (timeoutMs === 0) throw RpcErrors.SERVICE_TIMEOUT({ subject, timeoutMs });
  target.headers.set(wireHeaders.timeout, String(timeoutMs));
  checkSize(client, subject, body, true);
  let onAbort: (() => void) | undefined;
  try {
    const request = client.nats.request(subject, body, {
      timeout: timeoutMs,
      headers: target.headers,
    });
    const aborted = new Promise<never>((_, reject) => {
      onAbort = () => reject(CoreErrors.CANCELED());
      options.signal?.addEventListener('abort', onAbort, { once: true });
    });
    request.catch(() => undefined);
    const message = await Promise.race([request, aborted]);
    const error = errorOf(message, subject);
    if (error) throw error;
    return parseOutput(method.output, message.data, subject);
  } catch (error) {
    throw requestError(error, subject, timeoutMs);
  } finally {
    if (onAbort) options.signal?.removeEventListener('abort', onAbort);
  }
}

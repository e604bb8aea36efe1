import { SystemClock } from '@rookery/core';
import {
  subjectOf,
  type CallOptions,
  type ParamsOf,
  type ServiceClient,
  type ServiceContract,
} from '@rookery/rpc/contract';
import { routedRequest } from './routed-request.js';
import type { SubjectRouter } from './subject-router.js';
import { createServiceClient } from '@rookery/rpc';

type AnyMethod = (input: unknown, options?: unknown) => unknown;

/**
 * A contract's client that finds the network of its subjects at each call. Calls that the contract
 * calls idempotent are repeated when the project moves meanwhile; others fail with a retryable
 * error, jobs, streams and duplexes as they do when a connection is lost.
 */
export function createRoutedServiceClient<C extends ServiceContract>(
  router: SubjectRouter,
  contract: C,
  params: ParamsOf<C['prefix']>,
): ServiceClient<C> {
  const clock = new SystemClock();
  const methods: Record<string, unknown> = {};
  for (const [name, method] of Object.entries(contract.methods)) {
    const subject = subjectOf(contract, name, params as Readonly<Record<string, string>>);
    const there = async (): Promise<AnyMethod> => {
      const client = createServiceClient(await router.routeSubject(subject), contract, params);
      return (client as unknown as Record<string, AnyMethod>)[name]!;
    };
    if (method.kind === 'call') {
      methods[name] = (input: unknown, options: CallOptions = {}) => {
        const { timeoutMs = method.timeoutMs, signal } = options;
        const within = { timeoutMs, idempotent: method.idempotent, ...(signal && { signal }) };
        return routedRequest(router, subject, within, clock, async (client, leftMs) => {
          const made = createServiceClient(client, contract, params);
          const ask = (made as unknown as Record<string, AnyMethod>)[name]!;
          return ask(input, { ...options, timeoutMs: leftMs });
        });
      };
    } else if (method.kind === 'stream') {
      methods[name] = async function* (input: unknown, options?: unknown) {
        yield* (await there())(input, options) as AsyncIterable<unknown>;
      };
    } else {
      methods[name] = async (input: unknown, options?: unknown) => (await there())(input, options);
    }
  }
  return methods as ServiceClient<C>;
}

import type { ServiceClient, ServiceContract } from '../contract/service.js';
import { RpcErrors } from '../rpc.errors.js';

export interface ServiceFault {
  readonly method: string;
  /** Which call of that method, counted from 1 since the fault was injected. Default: the next. */
  readonly nth?: number;
  /** `before`: it never arrives. `after`: it is done and its answer is lost. */
  readonly when: 'before' | 'after';
  /** Default: SERVICE_UNAVAILABLE before, SERVICE_TIMEOUT after. */
  readonly error?: Error;
}

/** A client that fails where it is told to; each fault fires once. */
export interface FaultyClient<C extends ServiceContract> {
  readonly client: ServiceClient<C>;
  readonly inject: (fault: ServiceFault) => void;
  /** How often each method was called. */
  readonly calls: Readonly<Record<string, number>>;
}

type AnyMethod = (input: unknown, options?: unknown) => Promise<unknown>;

export function faultyClient<C extends ServiceContract>(inner: ServiceClient<C>): FaultyClient<C> {
  const calls: Record<string, number> = {};
  const faults: { fault: ServiceFault; at: number }[] = [];
  const client: Record<string, AnyMethod> = {};
  for (const [name, method] of Object.entries(inner as unknown as Record<string, AnyMethod>)) {
    client[name] = async (input, options) => {
      const count = (calls[name] = (calls[name] ?? 0) + 1);
      const index = faults.findIndex(({ fault, at }) => fault.method === name && at === count);
      const fault = index < 0 ? undefined : faults.splice(index, 1)[0]!.fault;
      if (fault?.when === 'before') {
        throw fault.error ?? RpcErrors.SERVICE_UNAVAILABLE({ subject: name });
      }
      const output = await method(input, options);
      if (fault) {
        throw fault.error ?? RpcErrors.SERVICE_TIMEOUT({ subject: name, timeoutMs: 0 });
      }
      return output;
    };
  }
  return {
    client: client as unknown as ServiceClient<C>,
    calls,
    inject: (fault) => {
      faults.push({ fault, at: (calls[fault.method] ?? 0) + (fault.nth ?? 1) });
    },
  };
}

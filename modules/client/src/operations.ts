import { backoffMs, CodedError, CoreErrors } from '@rookery/core/contract';
import { api, OperationView } from '@rookery/api';
import { fillPath } from './api-methods.js';
import { ClientErrors } from './client.errors.js';
import { eventsOf } from './event-stream.js';
import { delay, type Transport } from './transport.js';

export interface WatchOptions {
  readonly signal?: AbortSignal;
  /** A stream without an event or comment for this long is opened again. Default 45 s. */
  readonly silenceMs?: number;
  /** Gives up with HUB_UNREACHABLE when the hub is away for this long. Default 5 min. */
  readonly awayMs?: number;
}

const reconnectWait = { firstMs: 200, maxMs: 5000 } as const;

const endStates: ReadonlySet<OperationView['state']> = new Set([
  'succeeded',
  'failed',
  'canceled',
  'stuck',
]);

/** True when an operation will not change any more. */
export const hasEnded = (operation: OperationView): boolean => endStates.has(operation.state);

/**
 * Views of one operation as they change, the present one first, the final one last.
 * Reconnects when the stream breaks: a view is the whole state, so nothing is lost by it.
 */
export async function* watchOperation(
  transport: Transport,
  operationId: string,
  options: WatchOptions = {},
): AsyncGenerator<OperationView, void, undefined> {
  const path = fillPath(api.watchOperation.path, { operationId });
  let heardAt = Date.now();
  for (let failures = 0; ; failures += 1) {
    try {
      for await (const view of oneStream(transport, path, options)) {
        failures = 0;
        heardAt = Date.now();
        yield view;
        if (hasEnded(view)) return;
      }
    } catch (error) {
      if (options.signal?.aborted) throw CoreErrors.CANCELED({}, { cause: error });
      const away = Date.now() - heardAt;
      if (!isTransient(error) || away > (options.awayMs ?? 300_000)) throw error;
    }
    await delay(50 + backoffMs(failures, reconnectWait), options.signal);
  }
}

async function* oneStream(
  transport: Transport,
  path: string,
  options: WatchOptions,
): AsyncGenerator<OperationView> {
  const silent = new AbortController();
  const signal = options.signal ? AbortSignal.any([options.signal, silent.signal]) : silent.signal;
  const silenceMs = options.silenceMs ?? 45_000;
  const arm = (): ReturnType<typeof setTimeout> => setTimeout(() => silent.abort(), silenceMs);
  let timer = arm();
  try {
    const body = await transport.events(path, signal);
    // Comments keep a stream alive too, so bytes are counted, not events.
    const heard = new TransformStream<Uint8Array, Uint8Array>({
      transform(chunk, controller) {
        clearTimeout(timer);
        timer = arm();
        controller.enqueue(chunk);
      },
    });
    for await (const data of eventsOf(body.pipeThrough(heard, { signal }))) {
      const parsed = OperationView.safeParse(parseJson(data));
      if (!parsed.success) {
        throw ClientErrors.HUB_ANSWER_INVALID({ operation: path, reason: parsed.error.message });
      }
      yield parsed.data;
    }
  } finally {
    clearTimeout(timer);
    silent.abort();
  }
}

/** The final view of an operation that succeeded. @throws its coded error when it did not */
export function successOf(operation: OperationView): OperationView {
  if (operation.state === 'succeeded') return operation;
  const { id, kind, error } = operation;
  const about = { id, kind, reason: error?.message ?? 'no reason was recorded' };
  if (operation.state === 'stuck') throw ClientErrors.OPERATION_STUCK(about);
  if (operation.state === 'canceled') throw ClientErrors.OPERATION_CANCELED(about);
  if (error === null) throw ClientErrors.OPERATION_FAILED(about);
  throw new CodedError({ ...error, details: { ...error.details, operationId: id } });
}

/** What is not the hub's own coded answer is the network's failure. */
function isTransient(error: unknown): boolean {
  if (!(error instanceof CodedError)) return true;
  return error.code === 'HUB_UNREACHABLE' || error.retryable;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

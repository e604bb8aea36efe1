import type { CodedError } from '@rookery/core';
import type { EngineInput, OutgoingMessage } from '../engine/engine-io.js';

/** JetStream's numbers for what can happen before an engine is there to answer. */
const storeFailed = 10_077;
const temporarilyUnavailable = 10_008;
const tooManyRequests = 10_167;

/** Answers that a nats-server would not call JSON. */
const statusReaders = /^(DIRECT\.GET|CONSUMER\.MSG\.NEXT)\./;

/**
 * The answer to an input that no engine saw, in JetStream's form; its description starts with our
 * code. Null when nobody waits for one.
 */
export function refusal(input: EngineInput, error: CodedError): OutgoingMessage | null {
  if (input.kind !== 'api' && input.kind !== 'publish') return null;
  if (input.reply === '') return null;
  const base = { to: input.reply, shown: '', reply: '' };
  const description = `${error.code}: ${error.message}`;
  if (input.kind === 'api' && statusReaders.test(input.subject)) {
    // A reader asks again after this status.
    const status = input.subject.startsWith('D') ? `503 ${error.code}` : '409 Leadership Change';
    const headers = Buffer.from(`NATS/1.0 ${status}\r\n\r\n`, 'latin1');
    return { ...base, headers, payload: Buffer.alloc(0) };
  }
  const body = {
    ...(input.kind === 'publish' ? { stream: input.stream, seq: 0 } : {}),
    error: {
      code: error.status === 429 ? 429 : 503,
      err_code:
        error.status === 429
          ? tooManyRequests
          : error.retryable
            ? temporarilyUnavailable
            : storeFailed,
      description,
    },
  };
  return { ...base, headers: null, payload: Buffer.from(JSON.stringify(body)) };
}

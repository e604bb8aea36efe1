import { errors, TimeoutError } from '@nats-io/nats-core';
import { RpcErrors } from './rpc.errors.js';

/** The coded form of what nats-core says of a request. */
export function requestError(error: unknown, subject: string, timeoutMs: number): unknown {
  if (error instanceof errors.RequestError && error.isNoResponders()) {
    return RpcErrors.SERVICE_UNAVAILABLE({ subject }, { cause: error });
  }
  // Refused while it waited for the reply, it comes wrapped.
  const reason = error instanceof errors.RequestError ? error.cause : error;
  if (reason instanceof errors.PermissionViolationError) {
    return RpcErrors.SERVICE_FORBIDDEN({ subject }, { cause: error });
  }
  if (error instanceof TimeoutError) {
    return RpcErrors.SERVICE_TIMEOUT({ subject, timeoutMs }, { cause: error });
  }
  if (
    error instanceof errors.RequestError ||
    error instanceof errors.ClosedConnectionError ||
    error instanceof errors.DrainingConnectionError
  ) {
    return RpcErrors.SERVICE_UNAVAILABLE({ subject }, { cause: error });
  }
  return error;
}

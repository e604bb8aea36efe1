import { errors, TimeoutError } from '@nats-io/nats-core';
import { ConatErrors } from '../conat.errors.js';

/** The coded form of what nats-core says of a request. */
export function requestError(error: unknown, subject: string, timeoutMs: number): unknown {
  if (error instanceof errors.RequestError && error.isNoResponders()) {
    return ConatErrors.SERVICE_UNAVAILABLE({ subject }, { cause: error });
  }
  // Refused while it waited for the reply, it comes wrapped.
  const reason = error instanceof errors.RequestError ? error.cause : error;
  if (reason instanceof errors.PermissionViolationError) {
    return ConatErrors.SERVICE_FORBIDDEN({ subject }, { cause: error });
  }
  if (error instanceof TimeoutError) {
    return ConatErrors.SERVICE_TIMEOUT({ subject, timeoutMs }, { cause: error });
  }
  if (
    error instanceof errors.RequestError ||
    error instanceof errors.ClosedConnectionError ||
    error instanceof errors.DrainingConnectionError
  ) {
    return ConatErrors.SERVICE_UNAVAILABLE({ subject }, { cause: error });
  }
  return error;
}

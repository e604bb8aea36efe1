import { JetStreamApiError } from '@nats-io/jetstream';
import { errors } from '@nats-io/nats-core';
import { RpcErrors } from '@rookery/rpc';
import { CodedError } from '@rookery/core';
import { CommanderError } from 'commander';
import { CliErrors, usageError } from '../cli.errors.js';

// Two errors that the client names and does not export.
const notEnabled = 'JetStreamNotEnabled';
const invalidName = 'InvalidNameError';

/** What the NATS clients throw, in the command line's own words and codes. */
export function codedFailure(error: unknown): unknown {
  if (CodedError.is(error) || error instanceof CommanderError) return error;
  for (const one of chainOf(error)) {
    const coded = known(one);
    if (coded) return coded;
  }
  return error;
}

/** An error and what caused it: the clients wrap what they got. */
function* chainOf(error: unknown): Generator<Error> {
  for (let one = error; one instanceof Error; one = one.cause) yield one;
}

function known(error: Error): Error | undefined {
  const options = { cause: error };
  if (error instanceof JetStreamApiError) {
    const { description, err_code: jetStreamCode, code: status } = error.apiError();
    const reason = description ?? error.message;
    const refused = CliErrors.JETSTREAM_REFUSED({ reason, jetStreamCode, status }, options);
    return refused;
  }
  if (error.name === notEnabled) return CliErrors.JETSTREAM_MISSING({}, options);
  if (error instanceof errors.PermissionViolationError) {
    const { operation, subject } = error;
    const what = operation === 'publish' ? 'publish to' : 'listen to';
    return CliErrors.CONAT_FORBIDDEN({ what, subject }, options);
  }
  if (error instanceof errors.NoRespondersError) {
    return RpcErrors.SERVICE_UNAVAILABLE({ subject: error.subject }, options);
  }
  if (error instanceof errors.TimeoutError) return CliErrors.CONAT_NO_ANSWER({}, options);
  if (error instanceof errors.ClosedConnectionError || error instanceof errors.ConnectionError) {
    return CliErrors.CONAT_CONNECTION_LOST({ reason: error.message }, options);
  }
  if (
    error instanceof errors.InvalidArgumentError ||
    error instanceof errors.InvalidSubjectError ||
    error instanceof errors.InvalidOperationError ||
    error.name === invalidName
  ) {
    return usageError(error.message);
  }
  return undefined;
}

import { QueryFailedError } from 'typeorm';
import { HubErrors } from '../hub.errors.js';

/** Postgres: deadlock, serialization, shutdown, startup, too many connections, connection trouble. */
const passingStates = /^(40001|40P01|57P0[123]|53300|08...)$/;
const passingCodes = ['ECONNREFUSED', 'ECONNRESET', 'ENOENT', 'EPIPE', 'ETIMEDOUT'];
const passingTexts = /connection terminated|connection timeout|client has encountered/i;

/**
 * What will pass becomes DATABASE_UNAVAILABLE, which may be retried; the rest stays what it is.
 * @param options.alone who threw it speaks to Postgres alone: a socket that breaks has no frame of
 * the driver in its stack, and nothing else tells whose it was
 */
export function databaseError(error: unknown, options: { alone?: boolean } = {}): unknown {
  const cause: unknown = error instanceof QueryFailedError ? error.driverError : error;
  if (!(cause instanceof Error)) return error;
  const { code = '' } = cause as { code?: string };
  const viaPostgres =
    options.alone === true ||
    error instanceof QueryFailedError ||
    /pg-(pool|protocol)|\/pg\//.test(cause.stack ?? '');
  const passing =
    passingStates.test(code) ||
    (viaPostgres && (passingCodes.includes(code) || passingTexts.test(cause.message)));
  return passing ? HubErrors.DATABASE_UNAVAILABLE({}, { cause: error }) : error;
}

/**
 * The same object, whose methods reject with what {@link databaseError} makes of their errors.
 * @param target speaks to Postgres and to nobody else
 */
export function withDatabaseErrors<T extends object>(target: T): T {
  return new Proxy(target, {
    get(object, name) {
      const value: unknown = Reflect.get(object, name, object);
      if (typeof value !== 'function') return value;
      return (...args: unknown[]): unknown => {
        const result: unknown = value.apply(object, args);
        if (!(result instanceof Promise)) return result;
        return result.catch((error: unknown) => {
          throw databaseError(error, { alone: true });
        });
      };
    },
  });
}

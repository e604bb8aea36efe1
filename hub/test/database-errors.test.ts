import { describe, expect, it } from '@jest/globals';
import { databaseError, withDatabaseErrors } from '../src/database/database-errors.js';

/** As Node's sockets make it: no frame in its stack says whose socket it was. */
function brokenPipe(): Error {
  const error = Object.assign(new Error('write EPIPE'), { code: 'EPIPE', syscall: 'write' });
  error.stack =
    'Error: write EPIPE\n    at WriteWrap.onWriteComplete (node:internal/streams:87:19)';
  return error;
}

const thrower = (error: Error) => ({ ask: (): Promise<never> => Promise.reject(error) });

describe('an error of somebody who speaks to Postgres alone', () => {
  it('may be tried again when its connection broke', async () => {
    await expect(withDatabaseErrors(thrower(brokenPipe())).ask()).rejects.toMatchObject({
      code: 'DATABASE_UNAVAILABLE',
      retryable: true,
    });
  });

  it('stays what it is when it is of another kind', async () => {
    const error = new TypeError('no such column');
    await expect(withDatabaseErrors(thrower(error)).ask()).rejects.toBe(error);
  });
});

it('a broken connection of anybody else says nothing of Postgres', () => {
  const error = brokenPipe();
  expect(databaseError(error)).toBe(error);
});

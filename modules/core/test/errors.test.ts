import { describe, expect, it } from '@jest/globals';
import { catalogue } from '../src/errors.js';

const TestErrors = catalogue('test', {
  PLAIN: { status: 400, message: 'Nothing is to be said.' },
  FULL: { status: 507, message: '{folder} has {free} left; {wanted} are needed in {folder}.' },
});

describe('a catalogue', () => {
  it('fills messages from the details, and keeps further ones', () => {
    const error = TestErrors.FULL({ folder: '/srv', free: 0, wanted: 7, host: undefined });
    expect(error.message).toBe('/srv has 0 left; 7 are needed in /srv.');
    expect(error.toJSON()).toMatchObject({ code: 'FULL', status: 507, details: { wanted: 7 } });
    expect(TestErrors.PLAIN().message).toBe('Nothing is to be said.');
    const told = TestErrors.FULL({}, { message: 'There is no room.' });
    expect(told.message).toBe('There is no room.');
  });

  it('does not compile where a message would show a name instead of what it stands for', () => {
    // @ts-expect-error: wanted is missing
    expect(TestErrors.FULL({ folder: '/srv', free: 0 }).message).toContain('{wanted}');
    // @ts-expect-error: wanted may be undefined
    TestErrors.FULL({ folder: '/srv', free: 0, wanted: undefined });
    // @ts-expect-error: there are no details at all
    TestErrors.FULL();
    const long: string = 'put together {somehow}';
    // @ts-expect-error: nobody knows which names such a message has
    expect(catalogue('test', { LONG: { status: 500, message: long } }).LONG().message).toBe(long);
  });
});

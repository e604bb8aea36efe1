import { catalogue } from '@rookery/core';

export const JetStreamErrors = catalogue('jetstream', {
  ACCOUNT_FENCED: {
    status: 503,
    message: 'The persistence of {account} is closed for a move or a backup. Try again soon.',
    retryable: true,
  },
  ACCOUNT_QUARANTINED: {
    status: 503,
    message:
      'The persistence of {account} was found damaged ({reason}) and put aside as {file}. Restore it from a backup or a snapshot.',
  },
  ACCOUNT_UNUSABLE: {
    status: 503,
    message: 'The persistence of {account} cannot be used at the moment: {reason}',
    retryable: true,
  },
  ACCOUNT_BUSY: {
    status: 429,
    message: 'Too much waits to be stored at the moment. Try again soon.',
    retryable: true,
  },
  ACCOUNT_NOT_KEPT: { status: 404, message: 'There is no persistence of {account} here.' },
});

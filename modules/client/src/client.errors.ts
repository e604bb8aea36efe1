import { catalogue } from '@rookery/core/contract';

export const ClientErrors = catalogue('client', {
  HUB_UNREACHABLE: {
    status: 503,
    message: 'The hub at {url} does not answer ({reason}). Is it running, and is the URL right?',
    retryable: true,
  },
  HUB_ANSWER_INVALID: {
    status: 502,
    message:
      'The hub’s answer to {operation} is not understood ({reason}). Is the hub of another version?',
  },
  NOT_LOGGED_IN: {
    status: 401,
    message: 'There are no credentials. Run `rookery login URL --token T`, or `rookery up`.',
  },
  OPERATION_CANCELED: { status: 409, message: 'The operation {id} ({kind}) was canceled.' },
  OPERATION_STUCK: {
    status: 500,
    message:
      'The operation {id} ({kind}) is stuck and needs an operator: {reason} Look with "rookery op show", then let it go on with "rookery op retry", or end it with "rookery op resolve".',
  },
  OPERATION_FAILED: { status: 500, message: 'The operation {id} ({kind}) failed: {reason}' },
});

import { catalogue } from '@rookery/core';

export const ConatErrors = catalogue('conat', {
  SERVICE_UNAVAILABLE: {
    status: 503,
    message: 'Nobody answers on {subject} at the moment. Try again later.',
    retryable: true,
  },
  SERVICE_TIMEOUT: {
    status: 504,
    message: '{subject} did not answer within {timeoutMs} ms. It may still have done the work.',
    retryable: true,
  },
  SERVICE_SILENT: {
    status: 504,
    message: '{subject} has said nothing for {silenceMs} ms. The work may still go on there.',
    retryable: true,
  },
  SERVICE_INTERRUPTED: {
    status: 503,
    message: 'The connection to {subject} was lost in the middle: {reason}.',
    retryable: true,
  },
  SERVICE_UNKNOWN_METHOD: {
    status: 404,
    message: 'The service {prefix} has no method {method}. Are both sides of one version?',
  },
  SERVICE_VERSION_MISMATCH: {
    status: 409,
    message: '{subject} speaks version {served} of its contract, the caller {asked}. Upgrade one.',
  },
  SERVICE_INCOMPLETE: {
    status: 500,
    message: 'The service {prefix} cannot start: {reason}.',
  },
  SERVICE_REPLY_INVALID: {
    status: 502,
    message: '{subject} answered with something that its contract does not allow: {reason}',
  },
  SERVICE_MESSAGE_TOO_LARGE: {
    status: 413,
    message: 'The message for {subject} is larger than {limitBytes} bytes.',
  },
  SERVICE_BUSY: {
    status: 503,
    message: '{subject} has as many sessions as it takes ({limit}). Try again later.',
    retryable: true,
  },
  CONAT_UNREACHABLE: {
    status: 503,
    message: 'The message broker at {url} cannot be reached: {reason}',
    retryable: true,
  },
  SERVICE_FORBIDDEN: { status: 403, message: 'You may not ask {subject}.' },
  CONAT_CONFIG_INVALID: {
    status: 400,
    message: 'The configuration {path} cannot be used: {reason}. Correct it and start again.',
  },
  CONAT_LISTEN_FAILED: {
    status: 500,
    message: 'The message broker cannot listen on {address}: {reason}',
  },
  CONAT_FABRIC_UNREACHABLE: {
    status: 503,
    message: 'No node of the messaging cluster ({servers}) can be reached: {reason}',
    retryable: true,
  },
  CONAT_FABRIC_REFUSED: {
    status: 500,
    message: 'The messaging cluster at {server} cannot join these brokers: {reason}.',
  },
  CONAT_UNAUTHORIZED: {
    status: 401,
    message: 'The message broker at {url} refused the credentials.',
  },
  CONAT_ROUTE_MISSING: {
    status: 503,
    message: 'There is no route to {subject} at the moment.',
    retryable: true,
  },
  CONAT_ROUTE_CHANGED: {
    status: 503,
    message: 'The connection to {subject} went to another place meanwhile. It may have been done.',
    retryable: true,
  },
  CONAT_SUBJECT_SPANS: {
    status: 400,
    message: '{subject} lies on more than one network. Name the project that is meant.',
  },
  CONAT_ROUTES_BUSY: {
    status: 429,
    message: 'This client has as many projects open as it may ({limit}). Let go of some.',
    retryable: true,
  },
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

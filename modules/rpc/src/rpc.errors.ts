import { catalogue } from '@rookery/core';

export const RpcErrors = catalogue('rpc', {
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
  SERVICE_FORBIDDEN: { status: 403, message: 'You may not ask {subject}.' },
});

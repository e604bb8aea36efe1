import { catalogue } from '@rookery/core';

export const ConatErrors = catalogue('conat', {
  CONAT_UNREACHABLE: {
    status: 503,
    message: 'The message broker at {url} cannot be reached: {reason}',
    retryable: true,
  },
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
});

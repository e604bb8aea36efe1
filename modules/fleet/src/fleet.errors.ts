import { catalogue } from '@rookery/core';

export const FleetErrors = catalogue('fleet', {
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
});

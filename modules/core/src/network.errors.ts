import { catalogue } from './errors.js';

export const NetworkErrors = catalogue('network', {
  NETWORK_TAKEN: {
    status: 409,
    message:
      'The network {cidr} is taken by {holder}. Give this host another range (ROOKERY_PROJECT_CIDR).',
  },
});

export { relayDuplex } from './relay.js';
export { serve, ServiceServer, type ServeOptions } from './service-server.js';
export { createServiceClient } from './service-client.js';
export { serviceLimits, type ServiceLimits } from './service-limits.js';
export { requestError } from './request-error.js';
export { RpcErrors } from './rpc.errors.js';

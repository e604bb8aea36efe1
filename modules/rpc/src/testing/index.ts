export { loopback, type LoopbackOptions } from './loopback.js';
export { faultyClient, type FaultyClient, type ServiceFault } from './faulty-client.js';

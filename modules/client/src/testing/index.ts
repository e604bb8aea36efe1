export {
  ContractServer,
  type ContractFault,
  type ContractHandlers,
  type ContractRequest,
} from './contract-server.js';
export { backupId, HubInMemory } from './hub-in-memory.js';
export { hostView, operationView, projectView } from './views.js';

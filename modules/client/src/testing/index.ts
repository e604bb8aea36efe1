export {
  ContractServer,
  type ContractFault,
  type ContractHandlers,
  type ContractRequest,
} from './contract-server.js';

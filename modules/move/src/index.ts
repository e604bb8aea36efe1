export {
  never,
  nothing,
  saga,
  step,
  StepWaits,
  type NoUndo,
  type Saga,
  type SagaEnding,
  type SagaOptions,
  type SagaTypes,
  type Step,
  type StepContext,
  type StepDo,
  type StepOptions,
  type StepUndo,
} from './saga/saga.js';
export { newSagaRecord, SagaExecutor, type SagaExecutorOptions } from './saga/saga.executor.js';
export {
  LeaseGuard,
  SagaStore,
  type RetryPolicy,
  type SagaOutcome,
  type SagaRecord,
  type SagaStatus,
} from './saga/saga.ports.js';
export { SagaErrors } from './saga/saga.errors.js';
export { ImageTrees } from './image-trees.js';
export { MoveHosts, type MoveDestinationClient, type MoveSourceClient } from './move-hosts.js';
export {
  moveProject,
  type MoveInput,
  type MovePorts,
  type MoveResult,
  type MoveSagaState,
  type MoveSagaTypes,
} from './move-project.saga.js';
export { MoveDebts, payMoveDebt, type MoveDebt, type TakeBack } from './move-debts.js';
export { PlacementAuthority, type MoveDetails, type MovePlan } from './placement-authority.js';
export {
  HostProjects,
  ImageSource,
  IngressGate,
  TransferSender,
  type HostProject,
  type TransferResult,
  isStartFault,
} from './host.ports.js';
export {
  incomingEnds,
  isIncomingAlive,
  IncomingMove,
  moveClaims,
  MoveJournal,
  OutgoingMove,
  outgoingEnds,
  type MoveRound,
} from './move.journal.js';
export { MoveErrors } from './move.errors.js';
export { MoveModule, moveModuleOptions, type MoveModuleOptions } from './move.module.js';
export { MoveOptions, type MoveOptionsInput } from './move.options.js';
export { MoveSourceService, type MoveSourcePorts } from './move-source.service.js';
export { MoveDestinationService, type MoveDestinationPorts } from './move-destination.service.js';
export {
  TransferReceiver,
  type TransferReceiverPorts,
  type TransferRequest,
} from './transfer-receiver.js';

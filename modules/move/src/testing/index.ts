export { LocalTransferSender, MemoryHostProjects, MemoryIngressGate } from './memory-host.js';
export { MemoryImageTrees } from './memory-image-trees.js';
export { MemoryMoveDebts } from './memory-move-debts.js';
export { MemoryMoveJournal } from './memory-move-journal.js';
export { MemoryPlacementAuthority } from './memory-placement-authority.js';
export { MemorySagaStore } from './memory-saga-store.js';
export { sagaTorture, type TortureCase, type TortureWorld } from './saga-torture.js';

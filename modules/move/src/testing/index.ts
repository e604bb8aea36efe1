export { MemoryMoveJournal } from './memory-move-journal.js';
export { MemorySagaStore } from './memory-saga-store.js';
export { sagaTorture, type TortureCase, type TortureWorld } from './saga-torture.js';

export { FaultyExec, type ExecFault } from './faulty-exec.js';

import { totalmem } from 'node:os';
import { GiB, MiB } from './units.js';

/** Of the machine's memory, where no reserve is set; within these bounds. */
const reservePart = 0.1;
const reserveBytesMin = 768 * MiB;
const reserveBytesMax = 4 * GiB;

/** The machine's memory, or what the container that this process runs in was given of it. */
export function machineMemoryBytes(): number {
  const constrained = process.constrainedMemory();
  return constrained > 0 && constrained < totalmem() ? constrained : totalmem();
}

/** How much of it all projects together may use; a small machine gives them half. */
export function projectMemoryBytes(reserveBytes?: number, total = machineMemoryBytes()): number {
  const usual = Math.min(Math.max(total * reservePart, reserveBytesMin), reserveBytesMax);
  return Math.floor(total - (reserveBytes ?? Math.min(usual, total / 2)));
}

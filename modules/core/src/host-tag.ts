import { createHash } from 'node:crypto';

/** Short, stable name part of one host on this machine: two hosts' names never meet. */
export function hostTag(hostKey: string): string {
  return createHash('sha256').update(hostKey).digest('hex').slice(0, 6);
}

/** Name of the cgroup, beneath each hierarchy's root, that holds a host's containers. */
export function hostCgroup(hostKey: string): string {
  return `rookery-${hostTag(hostKey)}`;
}

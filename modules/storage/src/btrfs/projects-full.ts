import { MiB } from '@rookery/core';
import { projectsQgroup } from '../layout.js';
import { qgroupUsage, withFolder } from './ioctl.js';

/** How near to their limit refused projects are: one write asks for no more at once. */
const lastBytes = 16 * MiB;

/** Whether all projects together have no room, so that none was refused for its own quota alone. */
export function projectsAreFull(volume: string): boolean {
  try {
    const usage = withFolder(volume, (fd) => qgroupUsage(fd, projectsQgroup));
    return usage?.limitBytes !== undefined && usage.limitBytes - usage.referencedBytes < lastBytes;
  } catch {
    // No btrfs, or no quota.
    return false;
  }
}

import { lstat } from 'node:fs/promises';

/** True when something is at a path, be it a link that leads nowhere; false also when it is closed. */
export const isThere = (path: string): Promise<boolean> =>
  lstat(path).then(
    () => true,
    () => false,
  );

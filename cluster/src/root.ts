import { CoreErrors } from '@rookery/core';

/** @throws INVALID_INPUT for commands that change this machine */
export function requireRoot(): void {
  if (process.getuid?.() !== 0) {
    throw CoreErrors.INVALID_INPUT(
      {},
      { message: 'This needs root: it mounts volumes and makes containers. Run it with sudo.' },
    );
  }
}

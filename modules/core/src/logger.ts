import { pino, type Logger } from 'pino';

export type { Logger };

/**
 * A structured logger: one JSON object a line on stderr, so that stdout stays for results.
 * @param level pino's level; `silent` for tests.
 */
export function createLogger(name: string, level = 'info'): Logger {
  return pino(
    { name, level, base: { name, pid: process.pid } },
    pino.destination({ fd: 2, sync: true }),
  );
}

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createLogger } from '@rookery/core';
import { EmbeddedPostgres } from '../../src/database/embedded-postgres.js';

export interface TestPostgres {
  readonly url: string;
  readonly dir: string;
  close(): Promise<void>;
}

/** A real Postgres of its own, in a folder of its own. */
export async function startPostgres(): Promise<TestPostgres> {
  const dir = await mkdtemp(join(tmpdir(), 'rookery-hub-'));
  const server = new EmbeddedPostgres({
    dir,
    durable: false,
    log: createLogger('postgres', 'silent'),
  });
  try {
    return {
      url: await server.start(),
      dir,
      close: async () => {
        await server.stop();
        await rm(dir, { recursive: true, force: true });
      },
    };
  } catch (error) {
    await rm(dir, { recursive: true, force: true });
    throw error;
  }
}

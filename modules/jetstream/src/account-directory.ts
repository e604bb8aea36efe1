import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { rootAccount, type JetStreamAccount } from './account.js';

/** Port: which accounts a broker keeps. More come and go by `JetStream.open` and `drop`. */
export abstract class AccountDirectory {
  /** Those that are there at the start; clients are let in when their streams were read. */
  abstract list(): Promise<readonly JetStreamAccount[]>;
}

/** The name of an account that spans a whole network. */
const rootId = 'root';

/** One account for the whole broker, in a folder of its own. */
export class RootAccountDirectory extends AccountDirectory {
  constructor(private readonly folder: string) {
    super();
  }

  async list(): Promise<readonly JetStreamAccount[]> {
    await mkdir(this.folder, { recursive: true, mode: 0o700 });
    return [rootAccount(rootId, join(this.folder, 'conat.sqlite'))];
  }
}

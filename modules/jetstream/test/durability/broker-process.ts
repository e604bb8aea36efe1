import { once } from 'node:events';
import { join } from 'node:path';
import { SystemExec, type SpawnedProcess } from '@rookery/core';

/** A broker with persistence that can be killed as only a process can. */
export class BrokerProcess {
  private constructor(
    private readonly process: SpawnedProcess,
    readonly url: string,
  ) {}

  static async start(folder: string, synchronous: 'full' | 'off' = 'full'): Promise<BrokerProcess> {
    const program = join(import.meta.dirname, 'broker.mjs');
    // The test's own options are for jest.
    const started = new SystemExec().spawn([process.execPath, program, folder, synchronous], {
      env: { NODE_OPTIONS: '' },
    });
    const first = await Promise.race([once(started.stdout, 'data'), started.ended]);
    if (!Array.isArray(first)) throw new Error(`the broker did not start: ${first.stderr}`);
    return new BrokerProcess(started, String(first[0]).trim());
  }

  /** SIGKILL; resolves when it is gone. */
  async kill(): Promise<void> {
    this.process.kill('SIGKILL');
    await this.process.ended;
  }
}

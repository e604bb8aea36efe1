import { once } from 'node:events';
import { join } from 'node:path';
import { SystemExec, type SpawnedProcess } from '@rookery/core';

/** One process of a pool that can be killed as only a process can. */
export class HubProcess {
  private constructor(
    private readonly process: SpawnedProcess,
    readonly url: string,
  ) {}

  static async start(name: string, servers: readonly string[]): Promise<HubProcess> {
    const program = join(import.meta.dirname, 'hub.mjs');
    // The test's own options are for jest.
    const started = new SystemExec().spawn([process.execPath, program, name, servers.join(',')], {
      env: { NODE_OPTIONS: '' },
    });
    const first = await Promise.race([once(started.stdout, 'data'), started.ended]);
    if (!Array.isArray(first)) throw new Error(`the process did not start: ${first.stderr}`);
    return new HubProcess(started, String(first[0]).trim());
  }

  /** SIGKILL; resolves when it is gone. */
  async kill(): Promise<void> {
    this.process.kill('SIGKILL');
    await this.process.ended;
  }
}

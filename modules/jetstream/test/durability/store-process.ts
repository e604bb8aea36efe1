import { once } from 'node:events';
import { readdir, readlink } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface, type Interface } from 'node:readline';
import { SystemExec, waitFor, type SpawnedProcess } from '@rookery/core';

const patience = { timeoutMs: 30_000, everyMs: 2 };

/** An account's file in a process of its own, that can be killed as only a process can. */
export class StoreProcess {
  private readonly lines: string[] = [];
  private readonly reader: Interface;

  private constructor(
    private readonly process: SpawnedProcess,
    private readonly file: string,
  ) {
    this.reader = createInterface({ input: process.stdout });
    this.reader.on('line', (line) => this.lines.push(line));
  }

  /** Begins to open it; another process may have it still. */
  static start(file: string): StoreProcess {
    const program = join(import.meta.dirname, 'store.mjs');
    // The test's own options are for jest.
    const env = { NODE_OPTIONS: '' };
    return new StoreProcess(
      new SystemExec().spawn([process.execPath, program, file], { env }),
      file,
    );
  }

  /** @returns how many messages it found */
  async opened(): Promise<number> {
    return Number((await this.said('open')).split(' ')[1]);
  }

  /** It has asked for the file, and waits for the lock or has it. */
  async asks(): Promise<void> {
    await waitFor('the file is asked for', () => this.holdsFile(), patience);
  }

  /** @returns the message's sequence, which is on disk */
  async add(): Promise<number> {
    this.process.stdin.write('add\n');
    return Number((await this.said('added')).split(' ')[1]);
  }

  async fold(): Promise<void> {
    this.process.stdin.write('fold\n');
    await this.said('folded');
  }

  /** SIGKILL; resolves when it is gone. */
  async kill(): Promise<void> {
    this.process.kill('SIGKILL');
    await this.process.ended;
    this.reader.close();
  }

  private async holdsFile(): Promise<boolean> {
    const folder = `/proc/${this.process.pid}/fd`;
    const names = await readdir(folder);
    const files = await Promise.all(
      names.map((name) => readlink(join(folder, name)).catch(() => '')),
    );
    return files.includes(this.file);
  }

  private async said(what: string): Promise<string> {
    for (;;) {
      const line = this.lines.shift();
      if (line?.startsWith(what)) return line;
      if (line !== undefined) throw new Error(`the process said "${line}" and not "${what}"`);
      const ended = this.process.ended.then(({ exit, stderr }) => {
        throw new Error(`the process ended (${exit}): ${stderr}`);
      });
      await Promise.race([once(this.reader, 'line'), ended]);
    }
  }
}

import type { CommandRun } from '../run.js';
import type { OutputStream } from '../io.js';

/** What a command that goes on says: with `--json` one document a line. */
export class LineOutput {
  private readonly stdout: OutputStream;
  private open = true;

  constructor(private readonly run: CommandRun) {
    this.stdout = run.io.stdout;
  }

  get isTerminal(): boolean {
    return this.stdout.isTTY === true;
  }

  /** @returns false when the reader went away (`| head`), so nothing need be said any more */
  async say(json: unknown, text: string | Uint8Array): Promise<boolean> {
    if (!this.open) return false;
    this.open = await this.write(this.run.json ? `${JSON.stringify(json)}\n` : text);
    return this.open;
  }

  private write(what: string | Uint8Array): Promise<boolean> {
    return new Promise((resolve, reject) => {
      this.stdout.write(what, (error) => {
        if (error == null) resolve(true);
        else if ((error as NodeJS.ErrnoException).code === 'EPIPE') resolve(false);
        else reject(error);
      });
    });
  }
}

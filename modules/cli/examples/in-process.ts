import { PassThrough } from 'node:stream';
import { text } from 'node:stream/consumers';
import { processIo, runCli } from '@rookery/cli';

/** Runs one command in this process and gives the document that `--json` prints. */
export async function rookery(...argv: string[]): Promise<unknown> {
  const stdout = new PassThrough();
  const printed = text(stdout);
  const exit = await runCli([...argv, '--json'], { ...processIo, stdout });
  stdout.end();
  if (exit !== 0) throw new Error(`rookery ${argv.join(' ')} ended with ${exit}`);
  return JSON.parse(await printed);
}

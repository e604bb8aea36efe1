import { processIo } from './io.js';
import { runCli, type ProgramOptions } from './program.js';

/** Runs the command line as this process, and ends it. */
export async function runProgram(options: ProgramOptions = {}): Promise<never> {
  // A reader that went away (`rookery project list | head`) ends the output, not in a stack trace.
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error;
  });
  // Output is written by now; an idle connection or an open stdin must not hold the shell up.
  process.exit(await runCli(process.argv.slice(2), processIo, options));
}

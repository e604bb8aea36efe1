#!/usr/bin/env node
import { processIo } from './io.js';
import { runCli } from './program.js';

// A reader that went away (`rookery project list | head`) ends the output, not in a stack trace.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error;
});

// Output is written by now; an idle connection or an open stdin must not hold the shell up.
process.exit(await runCli(process.argv.slice(2), processIo));

import { runSuite } from './suite.js';

/** `./rookery test [unit|integration|e2e|bare] [-- jest arguments]` */
process.exitCode = await runSuite(process.argv.slice(2));

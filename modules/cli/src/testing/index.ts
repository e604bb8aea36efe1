export { cli, TestIo, type CliOptions, type CliOutcome } from './run-cli.js';

export { runCli, type ProgramOptions } from './program.js';
export { runProgram } from './process.js';
export { processIo, type CliIo, type InputStream, type OutputStream } from './io.js';
/** What a group of commands is made with. */
export { Cli, type CommandModule, type Handler } from './cli.js';
export { CommandRun, type CommandResult, type GlobalOptions } from './run.js';
export { CliErrors, usageError } from './cli.errors.js';
export { atLeastOne, bytes, port } from './parameters.js';
export { examples } from './commands/examples.js';
export { projectActivity } from './commands/project.js';
export { relativeTime } from './output/format.js';
export { fields, table } from './output/table.js';
/** Logins, and what the environment says. */
export { cliEnvironment, defaultDataDir, type CliEnvironment } from './config/environment.js';
export { ContextStore, nameOfCluster, type Context, type Credentials } from './contexts.js';

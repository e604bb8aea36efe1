import type { CommandModule } from '../program.js';
export const clusterCommands: CommandModule = () => undefined;

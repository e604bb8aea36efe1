#!/usr/bin/env node
import { runProgram } from '@rookery/cli';
import { clusterCommands } from './commands/cluster.js';
import { joinCommands } from './commands/join.js';

await runProgram({ local: [clusterCommands, joinCommands] });

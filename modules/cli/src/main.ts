#!/usr/bin/env node
import { runProgram } from './process.js';

await runProgram();

/** `node main.mjs TARGET-AS-JSON SCENARIO…`: a transcript on stdout; see ../README.md. */
import { createInterface } from 'node:readline';
import * as jetstream from '@nats-io/jetstream';
import * as kv from '@nats-io/kv';
import * as core from '@nats-io/nats-core';
import { runScenarios } from './scenarios.mjs';

const [target, ...names] = process.argv.slice(2);
const answers = createInterface({ input: process.stdin });
const io = {
  print: (line) => process.stdout.write(`${line}\n`),
  ask: (command) =>
    new Promise((resolve) => {
      answers.once('line', resolve);
      process.stdout.write(`@${command}\n`);
    }),
};
await runScenarios(names, { core, jetstream, kv }, JSON.parse(target), io);
answers.close();

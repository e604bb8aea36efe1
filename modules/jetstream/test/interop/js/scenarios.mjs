import { createContext } from './context.mjs';
import { core } from './core.mjs';
import { jetstream } from './jetstream.mjs';
import { kv } from './kv.mjs';

const scenarios = { ...core, ...jetstream, ...kv };

/** Runs scenarios one after the other; a failure is a line of the transcript like any other. */
export async function runScenarios(names, libraries, target, io) {
  for (const name of names) {
    const context = createContext(libraries, target, io, name);
    try {
      await scenarios[name](context);
      context.print('end');
    } catch (error) {
      context.print('FAILED', `${error?.stack ?? error}`);
    } finally {
      await context.close();
    }
  }
}

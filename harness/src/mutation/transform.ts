import type { SyncTransformer } from '@jest/transform';
import { createTransformer as swcTransformer } from '@swc/jest';
import { mutated, type Mutant } from './operators.js';

/** The change of one file that the tests shall notice. */
export type FileMutant = Pick<Mutant, 'start' | 'end' | 'text'> & { readonly file: string };

export interface TransformOptions {
  readonly swc: Parameters<typeof swcTransformer>[0];
  /** None: the sources as they are. */
  readonly mutant?: FileMutant;
}

/**
 * What jest runs instead of @swc/jest: the same, but one file is read with its mutant. Nothing is
 * written to the sources, so a run that is killed leaves nothing behind, and unchanged files come
 * from the cache.
 */
export function createTransformer({ swc, mutant }: TransformOptions): SyncTransformer {
  const inner = swcTransformer(swc) as SyncTransformer;
  // The configuration names the mutant: with it in the key, each would have every file compiled anew.
  const configString = JSON.stringify(swc);
  const read = (source: string, file: string): string =>
    mutant?.file === file ? mutated(source, mutant) : source;
  return {
    process: (source, file, options) => inner.process(read(source, file), file, options),
    getCacheKey: (source, file, options) =>
      inner.getCacheKey?.(read(source, file), file, { ...options, configString }) ?? '',
  };
}

export default { createTransformer };

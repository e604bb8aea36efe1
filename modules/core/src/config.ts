import type { z } from 'zod';
import { CoreErrors } from './errors.js';

/**
 * Parses settings with a schema and freezes them; all that is wrong is named at once.
 * @throws INVALID_CONFIG
 */
export function parseConfig<T extends z.ZodType>(schema: T, input: unknown): Readonly<z.output<T>> {
  const result = schema.safeParse(input);
  if (result.success) return Object.freeze(result.data);
  throw CoreErrors.INVALID_CONFIG({ reason: issuesText(result.error) });
}

/** Parses input that came from outside. @throws INVALID_INPUT with every issue named. */
export function parseInput<T extends z.ZodType>(schema: T, input: unknown): z.output<T> {
  const result = schema.safeParse(input);
  if (result.success) return result.data;
  throw CoreErrors.INVALID_INPUT({ reason: issuesText(result.error) });
}

function issuesText(error: z.ZodError): string {
  return error.issues
    .slice(0, 10)
    .map((issue) => `${issue.path.map(String).join('.') || 'value'}: ${issue.message}`)
    .join('; ');
}

import type { z } from 'zod';
import type { ApiInput } from '../engine-io.js';
import { jsErrors } from '../js-errors.js';
import { parseJson } from '../json.js';

const isSpace = (byte: number): boolean => byte === 32 || byte === 9 || byte === 10 || byte === 13;

/** Optional requests are read only when they look like JSON at all. */
export function looksLikeJson(payload: Buffer): boolean {
  const first = payload.find((byte) => !isSpace(byte));
  return first === 0x7b || first === 0x5b;
}

/** Nothing, or an object without keys. */
export function isEmptyRequest(payload: Buffer): boolean {
  if (payload.length === 0) return true;
  try {
    const value = parseJson(payload);
    return (
      typeof value === 'object' &&
      value !== null &&
      !Array.isArray(value) &&
      Object.keys(value).length === 0
    );
  } catch {
    return false;
  }
}

/**
 * Reads a request's body. Keys with null are as if they were absent, as in Go.
 * @throws JetStreamApiError 10025
 */
export function readRequest<T extends z.ZodType>(schema: T, { payload }: ApiInput): z.output<T> {
  let value: unknown = {};
  if (payload.length > 0) {
    try {
      value = withoutNulls(parseJson(payload));
    } catch (error) {
      throw jsErrors.invalidJson((error as Error).message);
    }
  }
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0]!;
  if (issue.code === 'unrecognized_keys') {
    throw jsErrors.invalidJson(`json: unknown field "${issue.keys[0]}"`);
  }
  throw jsErrors.invalidJson(`json: ${issue.path.join('.') || 'request'}: ${issue.message}`);
}

export function withoutNulls(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutNulls);
  if (typeof value !== 'object') return value;
  if (value === null) return {};
  return Object.fromEntries(
    Object.entries(value)
      .filter(([, inner]) => inner !== null)
      .map(([key, inner]) => [key, withoutNulls(inner)]),
  );
}

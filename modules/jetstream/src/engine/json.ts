/**
 * JSON on the wire and in memory: strings inside the engine are binary (one char a byte), as
 * subjects are everywhere inside the broker.
 */
const needsCare = /[\u0080-\uffff]|\\u/;

/** @throws SyntaxError */
export function parseJson(payload: Buffer): unknown {
  const text = payload.toString('utf8');
  const value: unknown = JSON.parse(text);
  return needsCare.test(text) ? binary(value) : value;
}

export const encodeJson = (value: unknown): Buffer => Buffer.from(JSON.stringify(value), 'latin1');

function binary(value: unknown): unknown {
  if (typeof value === 'string') return Buffer.from(value, 'utf8').toString('latin1');
  if (Array.isArray(value)) return value.map(binary);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, inner]) => [binary(key) as string, binary(inner)]),
  );
}

/**
 * Header blocks as they go over the wire (`NATS/1.0[ status]\r\nKey: value\r\n…\r\n\r\n`). Keys
 * are compared letter by letter, as a NATS server does.
 */
const version = 'NATS/1.0';
const empty = `${version}\r\n\r\n`;

/** One value, without the spaces before it; undefined when the key is not there. */
export function headerValue(headers: string, key: string): string | undefined {
  const at = headers.indexOf(`\r\n${key}:`);
  if (at < 0) return undefined;
  let start = at + key.length + 3;
  while (headers.charCodeAt(start) === 32) start += 1;
  const end = headers.indexOf('\r\n', start);
  return headers.slice(start, end < 0 ? undefined : end);
}

export const headerText = (headers: Buffer | null): string => headers?.toString('latin1') ?? '';

/** Adds lines at the end; begins a block when there is none. */
export function withHeaders(
  headers: Buffer | null,
  added: Readonly<Record<string, string>>,
): Buffer {
  const before =
    headers && headers.length > 2 ? headerText(headers).slice(0, -2) : `${version}\r\n`;
  const lines = Object.entries(added).map(([key, value]) => `${key}: ${value}\r\n`);
  return Buffer.from(`${before}${lines.join('')}\r\n`, 'latin1');
}

export function withoutHeader(headers: Buffer, key: string): Buffer | null {
  let text = headerText(headers);
  for (let at = text.indexOf(`\r\n${key}:`); at >= 0; at = text.indexOf(`\r\n${key}:`)) {
    const end = text.indexOf('\r\n', at + 2);
    if (end < 0) break;
    text = text.slice(0, at) + text.slice(end);
  }
  return text.length <= empty.length ? null : Buffer.from(text, 'latin1');
}

/** A block with nothing but a status line. */
export const statusHeaders = (status: string): Buffer =>
  Buffer.from(`${version} ${status}\r\n\r\n`, 'latin1');

/** A stored message does not keep the status of the one that was sent. */
export function withoutStatus(headers: Buffer | null): Buffer | null {
  if (!headers) return null;
  const end = headers.indexOf('\r\n');
  if (end <= version.length) return headers.length <= empty.length ? null : headers;
  const rest = headers.subarray(end);
  if (version.length + rest.length === empty.length) return null;
  return Buffer.concat([Buffer.from(version, 'latin1'), rest]);
}

/** A length at, before and behind each of these. */
const beside = (limits: readonly number[]): number[] =>
  limits.flatMap((limit) => [limit - 1, limit, limit + 1]);

/** `subjectBytesMax` of the broker: longer subjects are refused. */
const subjectBytesMax = 2_048;

/**
 * Lengths of subjects at and beside each limit that something in the broker has: what is copied by
 * hand (32), the subject that a parser remembers and the depth that needs no look (127, 128), a byte
 * (256), the file system's names and blocks.
 */
export const subjectLengths: readonly number[] = [
  ...beside([32, 64, 128, 256, 512, 1_024]),
  subjectBytesMax - 1,
  subjectBytesMax,
];

/** The same for bodies: inline files (2 KiB), frames that are copied (4 KiB), working buffers. */
export const bodyLengths: readonly number[] = [
  0,
  1,
  ...beside([32, 128, 256, 2_048, 4_096, 8_192, 16_384, 65_536]),
];

/** A subject of exactly so many bytes that begins with `start` and differs by it alone. */
export function subjectOf(bytes: number, start = 'a'): string {
  const binary = Buffer.from(start, 'utf8').toString('latin1');
  if (bytes < binary.length + 2) return start;
  return Buffer.from(`${binary}.${'x'.repeat(bytes - binary.length - 1)}`, 'latin1').toString();
}

/** A header block of exactly so many bytes, or the shortest that there is. */
export function headersOf(bytes: number): string {
  const empty = 'NATS/1.0\r\n\r\n';
  const line = 'K: \r\n';
  if (bytes < empty.length + line.length) return empty;
  return `NATS/1.0\r\nK: ${'h'.repeat(bytes - empty.length - line.length)}\r\n\r\n`;
}

export function bodyOf(bytes: number, seed: number): string {
  return Buffer.alloc(bytes, `${seed}.\r\nMSG `).toString('latin1');
}

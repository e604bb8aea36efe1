/** Times and durations in Go's writing, which is JetStream's. Nanoseconds are bigint. */
const nsPerMs = 1_000_000n;
const nsPerSecond = 1_000_000_000n;

/** What Go writes for no time. */
export const zeroTime = '0001-01-01T00:00:00Z';

export const msToNs = (ms: number): bigint =>
  BigInt(Math.floor(ms)) * nsPerMs + BigInt(Math.round((ms % 1) * 1e6));
export const nsToMs = (ns: bigint): number => Number(ns / nsPerMs);

/** RFC 3339 in UTC with as many digits of a second as are needed. */
export function formatTime(ns: bigint): string {
  const text = new Date(nsToMs(ns)).toISOString().slice(0, 19);
  const fraction = (ns % nsPerSecond).toString().padStart(9, '0').replace(/0+$/, '');
  return fraction === '' ? `${text}Z` : `${text}.${fraction}Z`;
}

/** @returns null when it is not a time */
export function parseTime(text: string): bigint | null {
  const parts = /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9})\d*)?(Z|[+-]\d\d:\d\d)$/.exec(text);
  if (!parts) return null;
  const seconds = Date.parse(`${parts[1]}${parts[3]}`);
  if (Number.isNaN(seconds)) return null;
  return BigInt(seconds) * nsPerMs + BigInt((parts[2] ?? '').padEnd(9, '0'));
}

const durationCharsMax = 64;

const units: Readonly<Record<string, number>> = {
  ns: 1,
  us: 1e3,
  µs: 1e3,
  ms: 1e6,
  s: 1e9,
  m: 60e9,
  h: 3600e9,
};

/** A duration like `1h30m` or `1.5s`. @returns nanoseconds; null when it is none */
export function parseDuration(text: string): number | null {
  if (text === '0') return 0;
  if (text.length > durationCharsMax) return null;
  const parts = /^([+-]?)((?:(?:\d+(?:\.\d*)?|\.\d+)(?:ns|us|µs|ms|s|m|h))+)$/.exec(text);
  if (!parts) return null;
  let total = 0;
  for (const [, number, unit] of parts[2]!.matchAll(/(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)/g)) {
    total += Number(number) * units[unit!]!;
  }
  return parts[1] === '-' ? -total : total;
}

/** Whole seconds as Go writes a duration: `1h0m0s`. */
export function formatSeconds(seconds: number): string {
  const [h, m, s] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60];
  return `${h > 0 ? `${h}h` : ''}${seconds >= 60 ? `${m}m` : ''}${s}s`;
}

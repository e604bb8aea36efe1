import { formatBytes } from '@rookery/core';

export { counted } from '@rookery/core';

const minuteMs = 60_000;
const hourMs = 60 * minuteMs;
const dayMs = 24 * hourMs;

/** `2026-01-01T…` → `3 min ago`; `-` for never. */
export function relativeTime(at: string | null | undefined, now = Date.now()): string {
  if (at == null) return '-';
  const ms = now - Date.parse(at);
  if (Math.abs(ms) < 10_000) return 'just now';
  const text = span(Math.abs(ms));
  return ms < 0 ? `in ${text}` : `${text} ago`;
}

/** `83000` → `1 min`; the largest whole unit, as tables need it. */
export function span(ms: number): string {
  if (ms < minuteMs) return `${Math.round(ms / 1000)} s`;
  if (ms < hourMs) return `${Math.floor(ms / minuteMs)} min`;
  if (ms < 2 * dayMs) return `${Math.floor(ms / hourMs)} h`;
  return `${Math.floor(ms / dayMs)} days`;
}

export const size = (bytes: number | null | undefined): string =>
  bytes == null ? '-' : formatBytes(bytes);

/** `used / limit`. */
export const usage = (used: number | null, limit: number): string =>
  used === null ? size(limit) : `${size(used)} / ${size(limit)}`;

/** Enough of a UUID to tell projects apart and to type. */
export const shortId = (id: string | null): string => id?.slice(0, 8) ?? '-';

export const yesNo = (value: boolean): string => (value ? 'yes' : 'no');

/** Takes terminal control characters out of what other people named. */
export const printable = (text: string): string =>
  text.replace(/[\u0000-\u001f\u007f-\u009f]/g, '?');

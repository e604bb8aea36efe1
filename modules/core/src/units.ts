import { CoreErrors } from './errors.js';

export const KiB = 1024;
export const MiB = 1024 * KiB;
export const GiB = 1024 * MiB;
export const TiB = 1024 * GiB;

const factors: Readonly<Record<string, number>> = { '': 1, K: KiB, M: MiB, G: GiB, T: TiB };

/** Parses `512M`, `10G`, `10GiB` or plain bytes. All units are binary. @throws INVALID_INPUT */
export function parseBytes(text: string): number {
  const match = /^(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?$/i.exec(text.trim());
  const factor = factors[match?.[2]?.toUpperCase() ?? '?'];
  if (!match?.[1] || factor === undefined) {
    throw CoreErrors.INVALID_INPUT({
      reason: `"${text}" is not a size; write for example 512M or 10G`,
    });
  }
  return Math.round(Number(match[1]) * factor);
}

/** `1536` → `1.5 KiB`. */
export function formatBytes(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let value = bytes;
  let unit = 0;
  while (Math.abs(value) >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${Number.isInteger(value) ? value : value.toFixed(1)} ${units[unit]}`;
}

/** `1 backup`, `2 backups`. */
export const counted = (count: number, noun: string): string =>
  `${count} ${noun}${count === 1 ? '' : 's'}`;

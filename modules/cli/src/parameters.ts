import { readFileSync } from 'node:fs';
import { CodedError, parseBytes } from '@rookery/core';
import { parseEgressTarget } from '@rookery/core/contract';
import { InvalidArgumentError } from 'commander';

/** Parsers of option values; a wrong value is wrong usage (exit status 2). */

/** `512M`, `10G`. */
export function bytes(text: string): number {
  try {
    return parseBytes(text);
  } catch (error) {
    throw new InvalidArgumentError(CodedError.is(error) ? error.message : 'not a size');
  }
}

export function positive(text: string): number {
  const value = Number(text);
  if (!Number.isFinite(value) || value <= 0) throw new InvalidArgumentError('not a number over 0');
  return value;
}

export function count(text: string): number {
  if (!/^\d{1,9}$/.test(text)) throw new InvalidArgumentError('not a whole number');
  return Number(text);
}

export function atLeastOne(text: string): number {
  const value = count(text);
  if (value < 1) throw new InvalidArgumentError('must be at least 1');
  return value;
}

const unitsMs: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1_000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
};

/** `500ms`, `30s`, `5m`, `2h`, `7d`. @returns milliseconds */
export function duration(text: string): number {
  const match = /^(\d{1,9})(ms|s|m|h|d)$/.exec(text);
  if (!match) throw new InvalidArgumentError('write a time as 500ms, 30s, 5m, 2h or 7d');
  return Number(match[1]) * unitsMs[match[2]!]!;
}

export function port(text: string): number {
  const value = count(text);
  if (value < 1 || value > 65535) throw new InvalidArgumentError('not a port (1 to 65535)');
  return value;
}

/** A port to listen on; 0 for a free one. */
export function portOrAny(text: string): number {
  return text === '0' ? 0 : port(text);
}

/** A checked port, still as text: it becomes part of a URL. */
export const portText = (text: string): string => String(port(text));

/** `8080,3000`; empty for none. */
export function ports(text: string): number[] {
  return text === '' ? [] : text.split(',').map((one) => port(one.trim()));
}

/** A repeatable `NAME=VALUE`. */
export function variable(
  text: string,
  before: Readonly<Record<string, string>> = {},
): Record<string, string> {
  const match = /^([A-Za-z_][A-Za-z0-9_]*)=([\s\S]*)$/.exec(text);
  if (!match) throw new InvalidArgumentError('write NAME=VALUE');
  return { ...before, [match[1] as string]: match[2] as string };
}

/** The version that this package was built with. */
export function ownVersion(): string {
  const manifest = readFileSync(new URL('../package.json', import.meta.url), 'utf8');
  return (JSON.parse(manifest) as { version: string }).version;
}

/** `203.0.113.0/24:443,10.0.0.5:5432/tcp` */
export function egressTargets(text: string): string[] {
  const targets = text.split(',').map((part) => part.trim());
  const wrong = targets.find((target) => parseEgressTarget(target) === undefined);
  if (wrong === undefined) return targets;
  throw new InvalidArgumentError(
    `${wrong} is not as 203.0.113.0/24, 10.0.0.5:443 or 10.0.0.5:53/udp`,
  );
}

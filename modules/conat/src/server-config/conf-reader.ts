import { parseDuration } from '../broker/times.js';
import { ConfMap, type ConfValue } from './nats-conf.js';

/** A setting that is wrong, or that there is not. */
export class ConfSettingError extends Error {
  constructor(
    readonly line: number,
    readonly setting: string,
    problem: string,
  ) {
    super(`line ${line}: "${setting}" ${problem}`);
  }
}

export type Setter = (value: SettingValue) => void;

/** One setting's value, which says what is wrong with it. */
export class SettingValue {
  constructor(
    readonly path: string,
    readonly line: number,
    readonly raw: ConfValue,
  ) {}

  wrong(problem: string): ConfSettingError {
    return new ConfSettingError(this.line, this.path, problem);
  }

  text(): string {
    if (typeof this.raw === 'string' && this.raw !== '') return this.raw;
    throw this.wrong('must be a text: put it in quotes');
  }

  flag(): boolean {
    if (typeof this.raw !== 'boolean') throw this.wrong('must be true or false');
    return this.raw;
  }

  count(least = 0): number {
    if (typeof this.raw !== 'number' || this.raw < least) {
      throw this.wrong(`must be a number of at least ${least}`);
    }
    return this.raw;
  }

  /** -1 is any that is free. */
  port(): number {
    if (this.raw === -1) return 0;
    if (this.count() > 65_535) throw this.wrong('must be a port');
    return this.count();
  }

  /** A duration as `2m`, or a number of seconds. */
  ms(): number {
    if (typeof this.raw === 'number' && this.raw >= 0) return this.raw * 1_000;
    const ns = typeof this.raw === 'string' ? parseDuration(this.raw) : null;
    if (ns === null || ns < 0) throw this.wrong('must be a duration like "2m" or "500ms"');
    return ns / 1e6;
  }

  texts(): string[] {
    const values = Array.isArray(this.raw) ? (this.raw as ConfValue[]) : [this.raw];
    return values.map((value) => new SettingValue(this.path, this.line, value).text());
  }

  list(): SettingValue[] {
    if (!Array.isArray(this.raw)) throw this.wrong('must be a list');
    return this.raw.map(
      (value: ConfValue, at) => new SettingValue(`${this.path}[${at}]`, this.line, value),
    );
  }

  get isMap(): boolean {
    return this.raw instanceof ConfMap;
  }

  /** Hands each key to its setter; a key without one is refused by its name. */
  each(setters: Readonly<Record<string, Setter>>): void {
    if (!(this.raw instanceof ConfMap)) throw this.wrong('must be a block in braces');
    readSettings(this.raw, setters, `${this.path}.`);
  }

  /** Keys are names, not settings. */
  named(): SettingValue[] {
    if (!(this.raw instanceof ConfMap)) throw this.wrong('must be a block in braces');
    return [...this.raw.entries].map(
      ([name, { value, line }]) => new SettingValue(`${this.path}.${name}`, line, value),
    );
  }

  /** `host:port`, `:port` or a port. */
  address(): { host?: string; port: number } {
    const text = typeof this.raw === 'number' ? String(this.raw) : this.text();
    const [, host, port] = /^(?:(.*):)?(-1|\d{1,5})$/.exec(text) ?? [];
    if (port === undefined || Number(port) > 65_535)
      throw this.wrong('must be "host:port" or a port');
    const bare = host?.replace(/^\[|\]$/g, '');
    return { ...(bare && { host: bare }), port: Math.max(0, Number(port)) };
  }
}

/** @throws ConfSettingError for a setting that nobody knows, with where it stands */
export function readSettings(
  map: ConfMap,
  setters: Readonly<Record<string, Setter>>,
  prefix = '',
): void {
  for (const [key, { value, line, referenced }] of map.entries) {
    const name = key.toLowerCase();
    const setter = Object.hasOwn(setters, name) ? setters[name] : undefined;
    const setting = new SettingValue(`${prefix}${key}`, line, value);
    if (!setter && referenced) continue;
    if (!setter) throw setting.wrong('is not supported here');
    setter(setting);
  }
}

/** Several names of one setting. */
export const named = (names: readonly string[], setter: Setter): Record<string, Setter> =>
  Object.fromEntries(names.map((name) => [name, setter]));

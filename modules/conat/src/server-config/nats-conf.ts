/**
 * The form of nats-server's configuration files: `key: value`, `key = value` or `key { … }`, lists,
 * comments (`#`, `//`), sizes (`64MB`), variables (`$NAME`, of the file or the environment) and
 * `include`. Keys keep the line that they are on, for messages.
 */
export type ConfValue = string | number | boolean | readonly ConfValue[] | ConfMap;

export interface ConfEntry {
  readonly value: ConfValue;
  readonly line: number;
  /** It is the value of a variable somewhere. */
  referenced: boolean;
}

export class ConfMap {
  readonly entries = new Map<string, ConfEntry>();
}

/** What a file says that cannot be read. */
class ConfSyntaxError extends Error {
  constructor(
    readonly line: number,
    problem: string,
  ) {
    super(`line ${line}: ${problem}`);
  }
}

export interface ConfSources {
  /** Text of a file that is included; relative to the file that names it. */
  include(path: string): string;
  /** A variable of the environment. */
  variable(name: string): string | undefined;
}

const depthMax = 32;
const units: Readonly<Record<string, number>> = {
  k: 1e3,
  m: 1e6,
  g: 1e9,
  t: 1e12,
  kb: 2 ** 10,
  mb: 2 ** 20,
  gb: 2 ** 30,
  tb: 2 ** 40,
};
const numberForm = /^([+-]?\d+)(?:([kmgt])(i?b?))?$/i;
const words: Readonly<Record<string, boolean>> = {
  true: true,
  yes: true,
  on: true,
  false: false,
  no: false,
  off: false,
};

/** @throws ConfSyntaxError */
export function parseNatsConf(text: string, sources: ConfSources, depth = 0): ConfMap {
  if (depth > depthMax) throw new ConfSyntaxError(1, 'too many includes within each other');
  return new ConfParser(text, sources, depth).file();
}

class ConfParser {
  private at = 0;
  /** Maps that are open, the innermost last: variables are looked up from there outwards. */
  private readonly scopes: ConfMap[] = [];

  constructor(
    private readonly text: string,
    private readonly sources: ConfSources,
    private readonly depth: number,
  ) {}

  file(): ConfMap {
    this.skip();
    // The whole may be in braces, as JSON is.
    const braces = this.peek() === '{';
    if (braces) this.at += 1;
    const map = this.map(braces);
    this.skip();
    if (this.at < this.text.length) throw this.wrong('something stands behind the end');
    return map;
  }

  private get line(): number {
    return this.text.slice(0, this.at).split('\n').length;
  }

  private peek(): string {
    return this.text[this.at] ?? '';
  }

  private wrong(problem: string): ConfSyntaxError {
    return new ConfSyntaxError(this.line, problem);
  }

  /** Spaces, line ends, commas, semicolons and comments. */
  private skip(newlines = true): void {
    const space = newlines ? /[\s,;]/ : /[ \t]/;
    for (; this.at < this.text.length; this.at += 1) {
      const here = this.peek();
      if (here === '#' || (here === '/' && this.text[this.at + 1] === '/')) {
        if (!newlines) return;
        const end = this.text.indexOf('\n', this.at);
        this.at = end < 0 ? this.text.length : end;
      } else if (!space.test(here)) return;
    }
  }

  private map(closed: boolean): ConfMap {
    const map = new ConfMap();
    if (this.scopes.length >= depthMax) throw this.wrong('nested too deeply');
    this.scopes.push(map);
    for (;;) {
      this.skip();
      if (this.peek() === '}' && closed) {
        this.at += 1;
        break;
      }
      if (this.at >= this.text.length) {
        if (closed) throw this.wrong('a "}" is missing');
        break;
      }
      this.entry(map);
    }
    this.scopes.pop();
    return map;
  }

  private entry(map: ConfMap): void {
    const { line } = this;
    const key = this.key();
    this.skip(false);
    if (key === 'include' && /['"\w./]/.test(this.peek())) {
      const path = this.value();
      if (typeof path !== 'string') throw this.wrong('include wants a path');
      const included = parseNatsConf(this.sources.include(path), this.sources, this.depth + 1);
      for (const [name, entry] of included.entries) map.entries.set(name, entry);
      return;
    }
    if (/[:=]/.test(this.peek())) {
      this.at += 1;
      this.skip(false);
    }
    if (this.peek() === '\n' || this.peek() === '') {
      this.skip();
      if (this.peek() !== '{' && this.peek() !== '[') throw this.wrong(`"${key}" has no value`);
    }
    map.entries.set(key, { value: this.value(), line, referenced: false });
  }

  private key(): string {
    const here = this.peek();
    if (here === '"' || here === "'") return this.quoted();
    const found = /^[^\s:={}[\],;#"']+/.exec(this.text.slice(this.at, this.at + 256))?.[0];
    if (found === undefined) throw this.wrong(`unexpected "${here}"`);
    this.at += found.length;
    return found;
  }

  private value(): ConfValue {
    const here = this.peek();
    if (here === '{') {
      this.at += 1;
      return this.map(true);
    }
    if (here === '[') return this.list();
    if (here === '"' || here === "'") return this.quoted();
    if (here === '(') return this.block();
    return this.bare();
  }

  private list(): ConfValue[] {
    this.at += 1;
    const values: ConfValue[] = [];
    for (;;) {
      this.skip();
      if (this.at >= this.text.length) throw this.wrong('a "]" is missing');
      if (this.peek() === ']') break;
      values.push(this.value());
    }
    this.at += 1;
    return values;
  }

  private quoted(): string {
    const quote = this.peek();
    const start = this.at;
    this.at += 1;
    let value = '';
    for (; this.peek() !== quote; this.at += 1) {
      if (this.at >= this.text.length) {
        this.at = start;
        throw this.wrong('a quote is not closed');
      }
      if (quote === '"' && this.peek() === '\\') value += this.escaped();
      else value += this.peek();
    }
    this.at += 1;
    return value;
  }

  private escaped(): string {
    this.at += 1;
    const here = this.peek();
    if (here === 'x') {
      const digits = /^[0-9a-fA-F]{2}/.exec(this.text.slice(this.at + 1))?.[0];
      if (digits === undefined) throw this.wrong('"\\x" wants two hexadecimal digits');
      this.at += 2;
      return String.fromCharCode(parseInt(digits, 16));
    }
    const known: Readonly<Record<string, string>> = {
      t: '\t',
      n: '\n',
      r: '\r',
      '"': '"',
      '\\': '\\',
    };
    const value = known[here];
    if (value === undefined) throw this.wrong(`unknown escape "\\${here}"`);
    return value;
  }

  /** `(` … `)` on a line of its own: text as it stands. */
  private block(): string {
    const end = /\n[ \t]*\)/.exec(this.text.slice(this.at));
    if (!end) throw this.wrong('a ")" on a line of its own is missing');
    const value = this.text.slice(this.at + 1, this.at + end.index);
    this.at += end.index + end[0].length;
    return value.trim();
  }

  private bare(): ConfValue {
    const found = /^[^\s,;{}[\]"'#]+/.exec(this.text.slice(this.at))?.[0];
    if (found === undefined) throw this.wrong(`unexpected "${this.peek()}"`);
    this.at += found.length;
    if (found.startsWith('$')) return this.variable(found.slice(1));
    return bareValue(found);
  }

  private variable(name: string): ConfValue {
    for (const scope of this.scopes.toReversed()) {
      const entry = scope.entries.get(name);
      if (!entry) continue;
      entry.referenced = true;
      return entry.value;
    }
    const value = this.sources.variable(name);
    if (value === undefined) throw this.wrong(`the variable $${name} is not set`);
    return bareValue(value);
  }
}

function bareValue(text: string): string | number | boolean {
  const word = words[text.toLowerCase()];
  if (word !== undefined) return word;
  const number = numberForm.exec(text);
  if (!number) return text;
  const [, digits, letter = '', rest = ''] = number;
  const unit = units[`${letter}${rest === '' ? '' : 'b'}`.toLowerCase()] ?? 1;
  return Number(digits) * unit;
}

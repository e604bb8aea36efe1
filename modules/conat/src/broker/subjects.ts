/**
 * Subjects as NATS has them: tokens between dots; `*` stands for one token, a last `>` for one or
 * more. Inside the broker a subject is a "binary" string (one char a byte), so that bytes survive
 * the way from socket to socket untouched.
 */

/** Not `\s`: the byte 0xa0 is a part of letters like "à". */
const separators = /[\0\t\n\v\f\r ]/;

/** Tokens of a subscription's subject, or null when it is not valid. */
export function parseFilter(subject: string, tokensMax: number): string[] | null {
  const tokens = subject.split('.');
  if (tokens.length > tokensMax) return null;
  for (let i = 0; i < tokens.length; i += 1) {
    const token = tokens[i]!;
    if (token === '' || (token === '>' && i !== tokens.length - 1)) return null;
    if (separators.test(token)) return null;
  }
  return tokens;
}

/** True for a subject that a message can have: no empty token, no wildcard token. */
export function isLiteral(subject: string): boolean {
  const end = subject.length;
  if (end === 0) return false;
  let start = 0;
  for (let i = 0; i <= end; i += 1) {
    if (i !== end && subject.charCodeAt(i) !== 46) continue;
    if (i === start) return false;
    if (i === start + 1) {
      const only = subject.charCodeAt(start);
      if (only === 42 || only === 62) return false;
    }
    start = i + 1;
  }
  return true;
}

export const hasWildcard = (tokens: readonly string[]): boolean =>
  tokens.includes('*') || tokens[tokens.length - 1] === '>';

/** Text from outside the wire as the broker keeps it. */
export const toBinary = (text: string): string => Buffer.from(text, 'utf8').toString('latin1');

export const inboxRoot = '_INBOX.';

/** The subjects that identity `name` may receive replies on. */
export const inboxPrefixOf = (name: string): string => `${inboxRoot}${name}.`;

/**
 * Who is meant by an interest in a subject: everybody, or the members of a queue group alone. A space
 * is in neither.
 */
export const audienceOf = (subject: string, group = ''): string =>
  group === '' ? subject : `${subject} ${group}`;

/** What {@link audienceOf} put together; the group is '' for everybody. */
export function partsOfAudience(audience: string): { subject: string; group: string } {
  const at = audience.indexOf(' ');
  if (at < 0) return { subject: audience, group: '' };
  return { subject: audience.slice(0, at), group: audience.slice(at + 1) };
}

interface PatternNode {
  readonly next: Map<string, PatternNode>;
  end: boolean;
}

const newNode = (): PatternNode => ({ next: new Map(), end: false });

/** A set of subject patterns with the three questions that permissions ask. */
export class PatternSet {
  private readonly root = newNode();
  readonly size: number;

  constructor(patterns: readonly string[]) {
    this.size = patterns.length;
    for (const pattern of patterns) {
      const tokens = parseFilter(toBinary(pattern), 256);
      if (!tokens) throw new TypeError(`"${pattern}" is not a subject`);
      let node = this.root;
      for (const token of tokens) {
        let next = node.next.get(token);
        if (!next) node.next.set(token, (next = newNode()));
        node = next;
      }
      node.end = true;
    }
  }

  /** Does a pattern include every subject that `tokens` (wildcards or not) stands for? */
  covers(tokens: readonly string[]): boolean {
    return this.walkCovers(this.root, tokens, 0);
  }

  /** Is there a subject that both a pattern and `tokens` stand for? */
  overlaps(tokens: readonly string[]): boolean {
    return this.walkOverlaps(this.root, tokens, 0);
  }

  private walkCovers(node: PatternNode, tokens: readonly string[], at: number): boolean {
    if (at === tokens.length) return node.end;
    if (node.next.get('>')?.end) return true;
    const token = tokens[at]!;
    if (token === '>') return false;
    const star = node.next.get('*');
    if (star && this.walkCovers(star, tokens, at + 1)) return true;
    const same = token === '*' ? undefined : node.next.get(token);
    return same !== undefined && this.walkCovers(same, tokens, at + 1);
  }

  private walkOverlaps(node: PatternNode, tokens: readonly string[], at: number): boolean {
    if (at === tokens.length) return node.end;
    if (node.next.get('>')?.end) return true;
    const token = tokens[at]!;
    if (token === '>') return node.next.size > 0;
    for (const [key, next] of node.next) {
      if (key !== '*' && token !== '*' && key !== token) continue;
      if (key !== '>' && this.walkOverlaps(next, tokens, at + 1)) return true;
    }
    return false;
  }
}

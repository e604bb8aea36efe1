/** Subjects and filters inside an account; strings are binary. */
const spaces = /[\t\n\f\r ]/;

/** Is it a subject to subscribe to: wildcards allowed. */
export function isValidSubject(subject: string): boolean {
  const tokens = subject.split('.');
  return tokens.every(
    (token, at) =>
      token !== '' && !spaces.test(token) && (token !== '>' || at === tokens.length - 1),
  );
}

export const hasWildcards = (subject: string): boolean =>
  subject.split('.').some((token) => token === '*' || token === '>');

/** Is there a subject that both stand for? */
export function subjectsCollide(one: string, other: string): boolean {
  if (one === other) return true;
  const [a, b] = [one.split('.'), other.split('.')];
  for (let i = 0; i < Math.max(a.length, b.length); i += 1) {
    const [left, right] = [a[i], b[i]];
    if (left === undefined || right === undefined) return false;
    if (left === '>' || right === '>') return true;
    if (left !== right && left !== '*' && right !== '*') return false;
  }
  return true;
}

/** Does `filter` stand for everything that `subject` stands for? */
export function isSubset(subject: string, filter: string): boolean {
  const [tokens, wanted] = [subject.split('.'), filter.split('.')];
  for (let i = 0; i < wanted.length; i += 1) {
    const token = tokens[i];
    if (token === undefined) return false;
    if (wanted[i] === '>') return true;
    if (token === '>' || (token === '*' && wanted[i] !== '*')) return false;
    if (wanted[i] !== '*' && wanted[i] !== token) return false;
  }
  return tokens.length === wanted.length;
}

interface Node {
  readonly next: Map<string, Node>;
  end: boolean;
}

/** Many subjects, to find out quickly whether another stands for something that they stand for. */
export class SubjectSet {
  private readonly root: Node = { next: new Map(), end: false };

  constructor(subjects: readonly string[]) {
    for (const subject of subjects) {
      let node = this.root;
      for (const token of subject.split('.')) {
        let next = node.next.get(token);
        if (!next) node.next.set(token, (next = { next: new Map(), end: false }));
        node = next;
      }
      node.end = true;
    }
  }

  collides(subject: string): boolean {
    return collidesBelow(this.root, subject.split('.'), 0);
  }
}

function collidesBelow(node: Node, tokens: readonly string[], at: number): boolean {
  if (at === tokens.length) return node.end;
  if (node.next.has('>')) return true;
  const token = tokens[at]!;
  if (token === '>') return node.next.size > 0;
  if (token === '*') {
    return [...node.next.values()].some((next) => collidesBelow(next, tokens, at + 1));
  }
  return [node.next.get(token), node.next.get('*')].some(
    (next) => next !== undefined && collidesBelow(next, tokens, at + 1),
  );
}

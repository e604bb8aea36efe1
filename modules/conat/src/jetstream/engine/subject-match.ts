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

const statement = /\b(?:SELECT|UPDATE|DELETE|INSERT)\b/;
const opening = /\b(WHERE|AND|OR|ON)\s+/g;
/** What ends a condition where no parenthesis is open. */
const ending =
  /^(?:WHERE|AND|OR|ON|GROUP|ORDER|RETURNING|FOR|LIMIT|UNION|JOIN|LEFT|SET|THEN|ELSE|END|AS)\b/;

/**
 * Each condition of an SQL text, made to hold always (or, after OR, never). It stays in the text, so
 * that a parameter that only it names is still known.
 */
export function emptiedConditions(sql: string): { start: number; end: number; text: string }[] {
  if (!statement.test(sql)) return [];
  const found = [];
  let inBetween = false;
  for (const match of sql.matchAll(opening)) {
    const keyword = match[1];
    // The AND of `BETWEEN a AND b` joins no conditions.
    if (inBetween) {
      inBetween = false;
      continue;
    }
    const start = match.index + match[0].length;
    const end = endOf(sql, start);
    const condition = sql.slice(start, end);
    // `ON CONFLICT`, `ON DELETE`, `AND EXISTS` is one.
    if (condition === '' || /^(?:CONFLICT|DELETE|UPDATE)\b/.test(condition)) continue;
    inBetween = /\bBETWEEN\b(?!.*\bAND\b)/s.test(condition);
    if (inBetween) continue;
    const text = keyword === 'OR' ? `(false AND (${condition}))` : `(true OR (${condition}))`;
    found.push({ start, end, text });
  }
  return found;
}

function endOf(sql: string, start: number): number {
  let depth = 0;
  let at = start;
  for (; at < sql.length; at += 1) {
    const letter = sql[at] ?? '';
    if (letter === '(' || letter === '{') depth += 1;
    else if (letter === ')' || letter === '}') depth -= 1;
    if (depth < 0 || '`;'.includes(letter)) break;
    const startsWord = /\w/.test(letter) && !/[\w.]/.test(sql[at - 1] ?? ' ');
    if (depth === 0 && startsWord && at > start && ending.test(sql.slice(at, at + 12))) break;
  }
  // A plain string ends with its quote.
  const text = sql.slice(start, at).replace(/['"]$/, (quote) => (at === sql.length ? '' : quote));
  return start + text.trimEnd().length;
}

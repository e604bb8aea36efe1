/** A filter as SQL and as a function. */
export interface SubjectFilter {
  readonly literal: boolean;
  /** Every matching subject is in `[from, to)`; `to` null: no upper bound. */
  readonly from: string;
  readonly to: string | null;
  /** A GLOB that every matching subject fits, or null when the range says enough. */
  readonly glob: string | null;
  /** True when every subject in the range matches, so that {@link matches} need not be asked. */
  readonly exact: boolean;
  readonly matches: (subject: string) => boolean;
}

const filters = new Map<string, SubjectFilter>();
const filtersMax = 1_024;

export function subjectFilter(filter: string): SubjectFilter {
  let known = filters.get(filter);
  if (!known) {
    if (filters.size >= filtersMax) filters.clear();
    filters.set(filter, (known = parse(filter)));
  }
  return known;
}

function parse(filter: string): SubjectFilter {
  const tokens = filter.split('.');
  const wild = tokens.findIndex((token) => token === '*' || token === '>');
  if (wild < 0) {
    return {
      literal: true,
      from: filter,
      to: `${filter}\0`,
      glob: null,
      exact: true,
      matches: (subject) => subject === filter,
    };
  }
  const prefix = wild === 0 ? '' : `${tokens.slice(0, wild).join('.')}.`;
  const exact = tokens[wild] === '>';
  return {
    literal: false,
    from: prefix,
    // '/' is the character after '.'.
    to: prefix === '' ? null : `${prefix.slice(0, -1)}/`,
    glob: exact ? null : toGlob(tokens),
    exact,
    matches: (subject) => tokensMatch(tokens, subject),
  };
}

/** GLOB's `*` crosses dots: it finds too much, never too little. */
const toGlob = (tokens: readonly string[]): string =>
  tokens
    .map((token) =>
      token === '*' || token === '>' ? '*' : token.replace(/[*?[]/g, (special) => `[${special}]`),
    )
    .join('.');

function tokensMatch(filter: readonly string[], subject: string): boolean {
  const tokens = subject.split('.');
  for (let i = 0; i < filter.length; i += 1) {
    const token = filter[i]!;
    if (token === '>') return tokens.length > i;
    if (i >= tokens.length || (token !== '*' && token !== tokens[i])) return false;
  }
  return tokens.length === filter.length;
}

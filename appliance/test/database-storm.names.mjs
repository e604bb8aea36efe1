// What the writers of a storm and those who read after them must agree on.
const id = (kind, n) => `00000000-0000-4000-8000-${kind}${String(n).padStart(11, '0')}`;

export const projectOf = (n) => id('a', n);
export const moveOf = (n) => id('b', n);
export const accountOf = (n) => id('c', n);
export const urlOf = (n) => `http://host/${n}`;

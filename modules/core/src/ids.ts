import { randomBytes, randomUUID } from 'node:crypto';

/** Random (version 4) UUID, lower case with dashes. */
export const newId = (): string => randomUUID();

/** URL-safe secret of 256 random bits, with a prefix that tells secret scanners what it is. */
export const newSecret = (prefix: string): string =>
  `${prefix}_${randomBytes(32).toString('base64url')}`;

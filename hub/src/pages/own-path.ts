import { z } from 'zod';

/** A path of this site: not `//elsewhere`, not `/\elsewhere`. */
export const OwnPath = z
  .string()
  .max(8000)
  .regex(/^\/(?![/\\])[\x21-\x7e]*$/)
  .catch('/');

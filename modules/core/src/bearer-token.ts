/**
 * The token of an `Authorization: Bearer …` header (RFC 6750 §2.1); undefined for any other header.
 * The scheme's letters may be large or small.
 */
export const bearerToken = (authorization: string | undefined): string | undefined =>
  /^Bearer +(\S+) *$/i.exec(authorization ?? '')?.[1];

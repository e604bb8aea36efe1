import { z } from 'zod';
import { HostId, ProjectId } from './ids.js';

export const ProjectRole = z.enum(['owner', 'editor', 'viewer']);
export type ProjectRole = z.infer<typeof ProjectRole>;

/**
 * Claims of an access token: an EdDSA JWT signed by the hub, at most five minutes long.
 * One token opens one project on one host for one account; a host mints none.
 */
export const AccessClaims = z.object({
  iss: z.literal('rookery-hub'),
  /**
   * Audience: the host whose ingress may accept it (`host:<id>`), the host whose broker may
   * (`conat:<id>`), or `conat` for the control network.
   */
  aud: z.union([
    z.templateLiteral(['host:', HostId]),
    z.templateLiteral(['conat:', HostId]),
    z.literal('conat'),
  ]),
  /** `account:<id>`, `project:<id>` (its own programs), `anonymous` (a public port), or `hub`. */
  sub: z.string().min(1).max(200),
  jti: z.string().min(1),
  iat: z.int(),
  exp: z.int(),
  project: ProjectId.optional(),
  role: ProjectRole.or(z.enum(['anonymous', 'project'])).optional(),
  /** `anonymous` tokens open this one port alone. */
  port: z.int().min(1).max(65535).optional(),
  /** Only the hub's own proxy carries it: a host then believes its `X-Forwarded-*`. */
  via: z.literal('hub').optional(),
  /** The API key or session that it was made with: revoked with it where the hub is asked. */
  credential: z.uuid().optional(),
});
export type AccessClaims = z.infer<typeof AccessClaims>;

/** The account that a token speaks for; undefined for a project's, the hub's and nobody's. */
export const accountOfSubject = (subject: string | undefined): string | undefined =>
  /^account:([0-9a-f-]{36})$/.exec(subject ?? '')?.[1];

export const accessTokenSecondsMax = 300;

/** An Ed25519 public key as a JWK with its id; the hub's set of these is what hosts verify with. */
export const VerificationKey = z.object({
  kid: z.string().min(1),
  kty: z.literal('OKP'),
  crv: z.literal('Ed25519'),
  x: z.string(),
});
export type VerificationKey = z.infer<typeof VerificationKey>;

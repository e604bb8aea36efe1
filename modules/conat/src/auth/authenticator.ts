import { z } from 'zod';
import type { ConatIdentity } from './identity.js';

/** What a client says of itself in CONNECT. Absent keys have the defaults of nats-server. */
export const ConnectOptions = z.object({
  verbose: z.boolean().default(true),
  pedantic: z.boolean().default(true),
  echo: z.boolean().default(true),
  headers: z.boolean().default(false),
  no_responders: z.boolean().default(false),
  protocol: z.number().default(0),
  name: z.string().max(1024).default(''),
  lang: z.string().max(256).default(''),
  version: z.string().max(256).default(''),
  nkey: z.string().max(256).optional(),
  sig: z.string().max(256).optional(),
  jwt: z.string().max(8192).optional(),
  auth_token: z.string().max(8192).optional(),
  user: z.string().max(1024).optional(),
  pass: z.string().max(8192).optional(),
});
export type ConnectOptions = z.output<typeof ConnectOptions>;

/** As nats-server, for which a key that is null was left out. */
export const saidIn = (raw: object): object =>
  Object.fromEntries(Object.entries(raw ?? {}).filter(([, value]) => value !== null));

export interface ConnectRequest {
  readonly options: ConnectOptions;
  /** What this connection was told to sign. */
  readonly nonce: string;
  /** Address of the other side. */
  readonly peer: string;
}

/** Tells who a connection is. */
export abstract class Authenticator {
  /** False when it lets everybody in, whatever they show: clients are told in INFO. */
  readonly required: boolean = true;

  /** The identity, or null for nobody: the connection is then refused. */
  abstract authenticate(request: ConnectRequest): Promise<ConatIdentity | null>;
}

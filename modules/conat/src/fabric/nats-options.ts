import { z } from 'zod';

const MiB = 1024 * 1024;

const isServer = (text: string): boolean => {
  const url = URL.canParse(text) ? new URL(text) : null;
  return url !== null && /^(nats|tls):$/.test(url.protocol) && url.hostname !== '';
};

/** `nats://host:4222`, `tls://user:password@host`, `nats://token@host`. */
const Server = z.string().trim().refine(isServer, 'a nats:// or tls:// URL is wanted');

/** `nats://a,nats://b` as a setting has it. */
const Servers = z.union([
  z
    .string()
    .transform((text) => text.split(','))
    .pipe(z.array(Server).min(1)),
  z.array(Server).min(1),
]);

const Options = z.object({
  /** All nodes; any of them will do. Credentials may stand in the URLs. */
  servers: Servers,
  /** A file with the seed of a user's nkey (`SU…`), or NATS credentials (JWT and seed). */
  credentialsFile: z.string().min(1).optional(),
  /** Certificates (PEM) that the nodes' may be signed by, instead of the well-known ones. */
  caFile: z.string().min(1).optional(),
  /** For the first connection, and for each attempt. */
  connectTimeoutMs: z.int().min(1).default(10_000),
  /** Bytes that may wait for the cluster, for each link; above it publications are given up. */
  bufferedBytesMax: z
    .int()
    .min(64 * 1024)
    .default(32 * MiB),
  /** Bytes that wait for the cluster from which on publishers are not read. */
  holdAboveBytes: z
    .int()
    .min(128 * 1024)
    .default(4 * MiB),
  /** How long publications wait for a cluster that is away, before they are given up. */
  patienceMs: z.int().min(0).default(5_000),
  /** Links of clients that do not hear themselves (`echo: false`): each has its own. */
  ownLinksMax: z.int().min(0).default(256),
  pingEveryMs: z.int().min(1).default(10_000),
  /** Unanswered pings after which a node is taken for dead. */
  pingsOutMax: z.int().min(1).default(2),
  /** One line of the protocol without its payload; nats-server's `max_control_line`. */
  controlLineBytesMax: z.int().min(64).default(4_096),
  /** The way from a request to the news that nobody heard it; see PendingRequests. */
  noRespondersWithinMs: z.int().min(1).default(10_000),
  closeDeadlineMs: z.int().min(0).default(2_000),
});

/**
 * How brokers meet through a NATS cluster, with every bound of it. The servers alone will do:
 * `nats://a,nats://b`.
 */
export const NatsFabricOptions = z.preprocess(
  (input) => (typeof input === 'string' || Array.isArray(input) ? { servers: input } : input),
  Options,
);
export type NatsFabricOptions = z.output<typeof Options>;
export type NatsFabricOptionsInput = string | readonly string[] | z.input<typeof Options>;

/** For messages: without what signs in. */
export const withoutCredentials = (server: string): string => {
  const url = new URL(server);
  return `${url.protocol}//${url.host}`;
};

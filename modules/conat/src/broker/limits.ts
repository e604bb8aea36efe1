import { z } from 'zod';

const KiB = 1024;
const MiB = 1024 * KiB;

/** Every bound of the broker, in one place. Defaults follow nats-server where it has one. */
export const BrokerLimits = z.object({
  connectionsMax: z.int().min(1).default(65_536),
  connectionsPerIdentityMax: z.int().min(1).default(4_096),
  connectionsPerAddressMax: z.int().min(1).default(16_384),
  subscriptionsPerConnectionMax: z.int().min(1).default(10_000),
  /** Subscriptions refused for that limit, after which the connection is cut. */
  subscriptionRefusalsMax: z.int().min(1).default(1_000),
  /** Headers and payload of one message together. */
  payloadBytesMax: z
    .int()
    .min(1)
    .max(64 * MiB)
    .default(MiB),
  /** One protocol line without its payload. */
  controlLineBytesMax: z.int().min(64).default(4_096),
  /** A subject or reply subject; longer ones are refused as not permitted. */
  subjectBytesMax: z.int().min(16).default(2_048),
  /** Depth of a subject; nats-server's `max_sub_tokens`, here for publishing as well. */
  subjectTokensMax: z.int().min(1).default(64),
  /**
   * Messages a second that one identity may publish over all its connections, and how many of
   * them may be requests. Above it its sockets are read more slowly: nothing is dropped and
   * nothing is said, as when the network were slower (an `-ERR` that clients do not know makes
   * them give up). Bursts of one second's worth pass.
   */
  publishesPerSecondMax: z.int().min(1).default(4_000_000),
  requestsPerSecondMax: z.int().min(1).default(1_000_000),
  /** PING, PONG, SUB, UNSUB and CONNECT of one connection; above it, as above. */
  operationsPerSecondMax: z.int().min(1).default(200_000),
  /** PINGs that may wait for their PONG at a time; a client that sends more is cut. */
  pingsWaitingMax: z.int().min(1).default(4_096),
  /** Bytes that wait for one connection's socket; above it the connection is cut. */
  pendingBytesMax: z
    .int()
    .min(1)
    .default(64 * MiB),
  /** Bytes taken from a connection before it is authenticated. */
  preAuthBytesMax: z
    .int()
    .min(1)
    .default(64 * KiB),
  /** One WebSocket frame to a client; nats.go refuses frames over 8 × max_payload. */
  frameBytesMax: z
    .int()
    .min(4 * KiB)
    .default(256 * KiB),
  authTimeoutMs: z.int().min(1).default(5_000),
  pingEveryMs: z.int().min(1).default(30_000),
  /** Unanswered pings after which the connection is stale. */
  pingsOutMax: z.int().min(1).default(2),
  /** Subjects whose receivers are remembered; see Sublist. */
  matchCacheMax: z.int().min(1).default(8_192),
  /** Subjects whose permission is remembered, for each connection. */
  permissionCacheMax: z.int().min(1).default(256),
  /** Reply subjects that one connection may answer at a time. */
  replyGrantsMax: z.int().min(1).default(4_096),
});
export type BrokerLimits = z.output<typeof BrokerLimits>;
export type BrokerLimitsInput = z.input<typeof BrokerLimits>;

import { z } from 'zod';

const KiB = 1024;
const MiB = 1024 * KiB;

/** Every bound of the broker, in one place. Defaults follow nats-server where it has one. */
export const BrokerLimits = z.object({
  connectionsMax: z.int().min(1).default(65_536),
  connectionsPerIdentityMax: z.int().min(1).default(4_096),
  connectionsPerAddressMax: z.int().min(1).default(16_384),
  subscriptionsPerConnectionMax: z.int().min(1).default(10_000),
  /** Headers and payload of one message together. */
  payloadBytesMax: z
    .int()
    .min(1)
    .max(64 * MiB)
    .default(MiB),
  /** One protocol line without its payload. */
  controlLineBytesMax: z.int().min(64).default(4_096),
  subjectTokensMax: z.int().min(1).default(64),
  /** Bytes that wait for one connection's socket; above it the connection is cut. */
  pendingBytesMax: z
    .int()
    .min(1)
    .default(64 * MiB),
  /** Bytes kept of a connection that is still being authenticated. */
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

import { z } from 'zod';

/** Every limit of the HTTP and WebSocket ways in, with its default. */
export const ProxyLimits = z.object({
  /**
   * Requests of one project under way at once; waiting ones count. Of this and the next number, each
   * port, account, client address and all strangers together have a share: see `shares.ts`.
   */
  requestsPerProjectMax: z.int().min(1).default(512),
  /** Requests under way at once in this process. */
  requestsMax: z.int().min(1).default(8192),
  /** WebSockets of one project. */
  socketsPerProjectMax: z.int().min(1).default(512),
  /** WebSockets in this process. */
  socketsMax: z.int().min(1).default(16_384),
  /** Connections to one upstream kept open while idle. */
  idleUpstreamsMax: z.int().min(0).default(64),
  idleUpstreamMs: z.int().min(100).default(15_000),
  /**
   * A request that may reach its upstream once only (any but GET, HEAD, OPTIONS, TRACE) takes no
   * connection that was idle for longer; 0: always a new one.
   */
  unsafeIdleMs: z.int().min(0).default(0),
  connectMs: z.int().min(10).default(5_000),
  /** From the last byte sent or received until the first response header. */
  responseMs: z.int().min(10).default(120_000),
  /** A response (events, downloads) may be silent this long. */
  responseIdleMs: z.int().min(10).default(3_600_000),
  /** A request body may be silent this long. */
  bodyIdleMs: z.int().min(10).default(60_000),
  upgradeMs: z.int().min(10).default(15_000),
  /** How long a request waits for a move's cutover, or for a project that is started again. */
  holdMs: z.int().min(0).default(30_000),
  heldPerProjectMax: z.int().min(0).default(256),
  heldMax: z.int().min(0).default(4096),
  /** How long the hub looks for the new host of a project that has just moved. */
  rerouteMs: z.int().min(0).default(15_000),
  /** How often the hub looks whether those with open connections may still have them. */
  recheckMs: z.int().min(10).default(5_000),
  /** Request headers must be complete within this. */
  headersMs: z.int().min(10).default(15_000),
  headersMax: z.int().min(10).default(200),
  /** An idle client connection is kept this long. */
  keepAliveMs: z.int().min(100).default(65_000),
});
export type ProxyLimits = z.infer<typeof ProxyLimits>;

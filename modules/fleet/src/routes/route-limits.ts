/** Bounds of a client of many projects' networks. */
export interface RouteLimits {
  /** Projects that are connected at a time. */
  readonly projectsMax: number;
  /** A connection that nobody uses is closed after this. */
  readonly idleMs: number;
  /** How long the first connection to a project may take. */
  readonly connectTimeoutMs: number;
  /** How long a host's own address is tried before the relay is. */
  readonly directTimeoutMs: number;
  /** An address that did not answer is tried behind the relay for this long. */
  readonly directAgainMs: number;
  readonly reconnectFirstMs: number;
  readonly reconnectMaxMs: number;
  /** A route's token is used no longer than this; access tokens live five minutes. */
  readonly routeMs: number;
}

export const routeLimits: RouteLimits = {
  projectsMax: 256,
  idleMs: 120_000,
  connectTimeoutMs: 15_000,
  directTimeoutMs: 2_000,
  directAgainMs: 60_000,
  reconnectFirstMs: 50,
  reconnectMaxMs: 2_000,
  routeMs: 240_000,
};

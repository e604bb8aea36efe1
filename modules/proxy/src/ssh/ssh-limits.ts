import { z } from 'zod';

/** Every limit of the SSH way in and of the sending end, with its default. */
export const SshLimits = z
  .object({
    connectionsMax: z.int().min(1).default(512),
    /** Connections that have not authenticated yet, in all and from one address. */
    unauthenticatedMax: z.int().min(1).default(64),
    unauthenticatedPerAddressMax: z.int().min(1).default(16),
    /** Connections of one project. */
    connectionsPerLoginMax: z.int().min(1).default(64),
    /** Connections that projects' logins leave to hosts that send moves. */
    transferReserve: z.int().min(0).default(32),
    /** Time to authenticate. */
    loginGraceMs: z.int().min(10).default(20_000),
    authAttemptsMax: z.int().min(1).default(6),
    /** Streams at once over one connection. */
    sessionsMax: z.int().min(1).default(8),
    /** A stream may make no progress this long. */
    stallMs: z.int().min(10).default(120_000),
    /** A connection without a stream is closed after this. */
    idleMs: z.int().min(10).default(300_000),
    keepaliveMs: z.int().min(100).default(15_000),
    keepalivesMissedMax: z.int().min(1).default(4),
    connectMs: z.int().min(10).default(15_000),
    /** From a stream's end to its result: the receiver syncs to disk. */
    resultMs: z.int().min(10).default(600_000),
  })
  .refine(
    ({ connectionsMax, unauthenticatedMax, transferReserve }) =>
      connectionsMax > unauthenticatedMax + transferReserve,
    { message: 'connectionsMax must be more than unauthenticatedMax and transferReserve together' },
  );
export type SshLimits = z.infer<typeof SshLimits>;

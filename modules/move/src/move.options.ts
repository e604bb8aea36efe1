import { z } from 'zod';

const MiB = 1024 * 1024;

export const MoveOptions = z.object({
  /** The project is stopped for the last delta once a round carried no more than this. */
  deltaBytesGoal: z
    .int()
    .min(0)
    .default(16 * MiB),
  /** … or took less than this. */
  deltaMsGoal: z.int().min(0).default(500),
  /** Room that an arriving move must leave free on the volume. */
  reserveBytes: z
    .int()
    .min(0)
    .default(256 * MiB),
  /** How often a running receive looks whether it is still authorized. */
  recheckMs: z.int().min(10).default(1000),
});
export type MoveOptions = z.infer<typeof MoveOptions>;
export type MoveOptionsInput = z.input<typeof MoveOptions>;

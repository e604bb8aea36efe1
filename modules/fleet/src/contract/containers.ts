/** What one container is asked and says, in the port and over conat alike. */
import { ProjectId } from '@rookery/core/contract';
import { z } from 'zod';

export const ContainerStats = z.object({
  cpuSeconds: z.number().min(0),
  memoryBytes: z.int().min(0),
  memoryLimitBytes: z.int().min(0),
  pids: z.int().min(0),
});
export type ContainerStats = z.infer<typeof ContainerStats>;

export const WindowSize = z.object({
  columns: z.int().min(1).max(1000),
  rows: z.int().min(1).max(1000),
});

export const ExecInput = z.object({
  projectId: ProjectId,
  command: z.array(z.string()).min(1).max(1024),
  tty: WindowSize.optional(),
  env: z.record(z.string().regex(/^[A-Za-z_][A-Za-z0-9_]*$/), z.string()).default({}),
  /** Relative to home. */
  cwd: z.string().optional(),
});
export type ExecInput = z.infer<typeof ExecInput>;

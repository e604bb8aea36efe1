/** What a host offers over conat about its projects and their containers. */
import { call, duplex, job, service } from '@rookery/rpc/contract';
import {
  CodedErrorView,
  Fence,
  ProjectId,
  ProjectListener,
  ProjectSpec,
  ProjectState,
  PlacementGeneration,
} from '@rookery/core/contract';
import { z } from 'zod';
import { ContainerStats, ExecInput, WindowSize } from './containers.js';

export const HostProjectView = z.object({
  projectId: ProjectId,
  generation: PlacementGeneration,
  state: ProjectState,
  spec: ProjectSpec,
  /** Why the state is `error`, or what went wrong last. */
  error: CodedErrorView.optional(),
  /** What listens, or did before the project was stopped: requests wait for it after a start. */
  listeners: z.array(ProjectListener).optional(),
});
export type HostProjectView = z.infer<typeof HostProjectView>;

/** `exit` is the command's own status; 128 + n when signal n ended it. */
export const ExecResult = z.object({ exit: z.int().min(0).max(255) });

export const ExecControl = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('resize'), size: WindowSize }),
  z.object({
    kind: z.literal('signal'),
    signal: z.enum(['SIGINT', 'SIGTERM', 'SIGKILL', 'SIGHUP', 'SIGQUIT', 'SIGUSR1', 'SIGUSR2']),
  }),
]);
export type ExecControl = z.infer<typeof ExecControl>;

export const LogsInput = z.object({
  projectId: ProjectId,
  follow: z.boolean().default(false),
  tailLines: z.int().min(0).max(100_000).optional(),
});

export const hostProjects = service(
  'host.{hostId}.projects',
  { version: 1 },
  {
    /** Makes the volume and fetches the image; `created` afterwards. Repeating does no harm. */
    create: job(z.object({ fence: Fence, spec: ProjectSpec }), HostProjectView),
    /** Ends when the container runs. Simultaneous starts share one. */
    start: job(
      z.object({
        fence: Fence,
        spec: ProjectSpec,
        /** What listened where the project ran before, for a host that does not know it. */
        listeners: z.array(ProjectListener).optional(),
      }),
      HostProjectView,
    ),
    stop: job(
      z.object({
        fence: Fence,
        graceMs: z.int().min(0).max(300_000).default(10_000),
        /** The caller starts it again: until then requests wait (for a bounded time). */
        startsAgain: z.boolean().default(false),
        /**
         * `shut-out`: afterwards nobody writes to it but this operation, until that says `let-in`,
         * another operation has the project for itself, or the project is taken away.
         */
        writers: z.enum(['shut-out', 'let-in']).optional(),
      }),
      HostProjectView,
    ),
    /** Removes container, volume, persistence and snapshots, locked ones included. */
    delete: job(z.object({ fence: Fence }), z.object({})),
    /** New quota or public ports; limits take effect at once where the kernel allows. */
    update: call(z.object({ fence: Fence, spec: ProjectSpec }), HostProjectView, {
      timeoutMs: 30_000,
      idempotent: true,
    }),
    /** Copies one project of this host into a new one here; its bytes are charged to the new one. */
    clone: job(
      z.object({
        fence: Fence,
        fromProjectId: ProjectId,
        fromSnapshot: z.string().optional(),
        spec: ProjectSpec,
      }),
      HostProjectView,
    ),
    /**
     * Takes files that are on this host's disk for the project's own again, at the fence's
     * generation. It is stopped then.
     */
    adopt: job(z.object({ fence: Fence, spec: ProjectSpec }), HostProjectView),
    get: call(z.object({ projectId: ProjectId }), HostProjectView, { idempotent: true }),
    stats: call(z.object({ projectId: ProjectId }), ContainerStats, { idempotent: true }),
    exec: duplex(ExecInput, ExecResult, ExecControl),
    logs: duplex(LogsInput, z.object({}), z.object({})),
  },
);

/**
 * The same streams as a user reaches them: served by the hub, which relays to the owning host.
 * The broker lets owners and editors publish here, viewers not.
 */
export const projectStreams = service(
  'project.{projectId}.streams',
  { version: 1 },
  {
    exec: duplex(ExecInput.omit({ projectId: true }), ExecResult, ExecControl),
    logs: duplex(LogsInput.omit({ projectId: true }), z.object({}), z.object({})),
  },
);

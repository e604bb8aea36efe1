/** Where projects' networks are. */
import { HostId, PlacementGeneration, ProjectId } from '@rookery/core/contract';
import { call, service } from '@rookery/rpc/contract';
import { z } from 'zod';

/** Where a project's network is. */
export const ProjectRoute = z.object({
  projectId: ProjectId,
  hostId: HostId,
  generation: PlacementGeneration,
  /** The host's broker, to be dialled directly. */
  urls: z.array(z.url()),
  /** The same by way of the hub, for those whom the host's own address does not reach. */
  relayUrl: z.url().optional(),
  /** Opens this project on this host, and nothing else; given for `proof`. */
  token: z.string().optional(),
});
export type ProjectRoute = z.infer<typeof ProjectRoute>;

/**
 * Served by the hub: where a project's network is. Accounts ask for their own projects, hosts for
 * what they own.
 */
export const projectRoutes = service(
  'routes.{projectId}',
  { version: 1 },
  {
    resolve: call(
      z.object({
        /** The access token or API key that the caller shows here; the route's token ends with it. */
        proof: z.string().max(8192).optional(),
      }),
      ProjectRoute,
      { timeoutMs: 5_000, idempotent: true },
    ),
  },
);

/** Said on {@link routeChangeSubject} when a project has another place, or none; may get lost. */
export const RouteChange = z.object({
  projectId: ProjectId,
  hostId: HostId.nullable(),
  generation: PlacementGeneration,
});
export type RouteChange = z.infer<typeof RouteChange>;

export const routeChangeSubject = (projectId: string): string => `routes.${projectId}.changed`;

import { parseConfig } from '@rookery/core';
import { z } from 'zod';

/** What `up` and `join` read from the environment beside the command line's own. */
const Environment = z
  .object({
    /** Taken by `join`. */
    ROOKERY_JOIN_TOKEN: z.string().min(1).optional(),
    ROOKERY_CACHE: z.string().min(1).default('/var/cache/rookery'),
    /** Other builds of a cluster's parts than the repository's own. */
    ROOKERY_HUB_MAIN: z.string().min(1).optional(),
    ROOKERY_APPLIANCE_MAIN: z.string().min(1).optional(),
  })
  .transform((env) => ({
    joinToken: env.ROOKERY_JOIN_TOKEN,
    cacheDir: env.ROOKERY_CACHE,
    parts: {
      ...(env.ROOKERY_HUB_MAIN !== undefined && { hubMain: env.ROOKERY_HUB_MAIN }),
      ...(env.ROOKERY_APPLIANCE_MAIN !== undefined && {
        applianceMain: env.ROOKERY_APPLIANCE_MAIN,
      }),
    },
  }));
export type ClusterEnvironment = z.output<typeof Environment>;

/** @throws INVALID_CONFIG */
export function clusterEnvironment(env: NodeJS.ProcessEnv): ClusterEnvironment {
  // An empty variable means "not set", as in most command lines.
  const set = Object.fromEntries(Object.entries(env).filter(([, value]) => value !== ''));
  return parseConfig(Environment, set);
}

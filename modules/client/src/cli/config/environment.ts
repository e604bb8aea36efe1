import { parseConfig } from '@rookery/core';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { z } from 'zod';

/** What the command line reads from the environment; nothing else does. */
const Environment = z
  .object({
    ROOKERY_URL: z.string().min(1).optional(),
    ROOKERY_TOKEN: z.string().min(1).optional(),
    ROOKERY_CONTEXT: z.string().min(1).optional(),
    /** Taken by `join`. */
    ROOKERY_JOIN_TOKEN: z.string().min(1).optional(),
    /** Shown to /metrics of hubs and hosts. */
    ROOKERY_METRICS_TOKEN: z.string().min(1).optional(),
    ROOKERY_CACHE: z.string().min(1).default('/var/cache/rookery'),
    /** Other builds of a cluster's parts than the repository's own. */
    ROOKERY_HUB_MAIN: z.string().min(1).optional(),
    ROOKERY_APPLIANCE_MAIN: z.string().min(1).optional(),
    XDG_CONFIG_HOME: z.string().min(1).optional(),
    NO_COLOR: z.string().optional(),
    TERM: z.string().default('dumb'),
  })
  .transform((env) => ({
    url: env.ROOKERY_URL,
    token: env.ROOKERY_TOKEN,
    context: env.ROOKERY_CONTEXT,
    joinToken: env.ROOKERY_JOIN_TOKEN,
    metricsToken: env.ROOKERY_METRICS_TOKEN,
    cacheDir: env.ROOKERY_CACHE,
    parts: {
      ...(env.ROOKERY_HUB_MAIN !== undefined && { hubMain: env.ROOKERY_HUB_MAIN }),
      ...(env.ROOKERY_APPLIANCE_MAIN !== undefined && {
        applianceMain: env.ROOKERY_APPLIANCE_MAIN,
      }),
    },
    configDir: join(env.XDG_CONFIG_HOME ?? join(homedir(), '.config'), 'rookery'),
    color: !env.NO_COLOR && env.TERM !== 'dumb',
    terminal: env.TERM,
  }));
export type CliEnvironment = z.output<typeof Environment>;

/** @throws INVALID_CONFIG */
export function cliEnvironment(env: NodeJS.ProcessEnv = process.env): CliEnvironment {
  // An empty variable means "not set", as in most command lines.
  const set = Object.fromEntries(Object.entries(env).filter(([, value]) => value !== ''));
  return parseConfig(Environment, set);
}

/** Where `up` keeps its cluster unless `--data` says otherwise. */
export const defaultDataDir = '/var/lib/rookery';

import { parseConfig } from '@rookery/core';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { z } from 'zod';

/** What the command line reads from the environment; nothing else in it does. */
const Environment = z
  .object({
    ROOKERY_URL: z.string().min(1).optional(),
    ROOKERY_TOKEN: z.string().min(1).optional(),
    ROOKERY_CONTEXT: z.string().min(1).optional(),
    /** Shown to /metrics of hubs and hosts. */
    ROOKERY_METRICS_TOKEN: z.string().min(1).optional(),
    XDG_CONFIG_HOME: z.string().min(1).optional(),
    NO_COLOR: z.string().optional(),
    TERM: z.string().default('dumb'),
  })
  .transform((env) => ({
    url: env.ROOKERY_URL,
    token: env.ROOKERY_TOKEN,
    context: env.ROOKERY_CONTEXT,
    metricsToken: env.ROOKERY_METRICS_TOKEN,
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

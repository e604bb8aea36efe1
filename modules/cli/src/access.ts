import { join, resolve } from 'node:path';
import { CliErrors, usageError } from './cli.errors.js';
import { defaultDataDir, type CliEnvironment } from './config/environment.js';
import {
  ContextStore,
  readCredentials,
  sameHub,
  type Context,
  type Credentials,
} from './contexts.js';

export interface AccessFlags {
  readonly url?: string;
  readonly token?: string;
  readonly context?: string;
  readonly data?: string;
}

export interface Access {
  readonly url: string;
  readonly token?: string;
  /** What named the hub: `context lab`, `ROOKERY_URL`. */
  readonly source: string;
}

/** `http://127.0.0.1:7700 (context lab)` */
export const targetText = ({ url, source }: Access): string => `${url} (${source})`;

/**
 * Which hub to talk to, and as whom: flags first, then the environment, then the context in use, then
 * the local cluster in its default folder where there are no contexts at all. `--data` and `--context`
 * ask for that login alone.
 * @throws CONTEXT_UNKNOWN, CONTEXT_NOT_CHOSEN, CREDENTIALS_INVALID
 */
export async function findAccess(
  flags: AccessFlags,
  environment: CliEnvironment,
): Promise<Access | undefined> {
  const { data, context } = flags;
  if (data !== undefined && context !== undefined) {
    throw usageError('give --data or --context, not both');
  }
  const isNamed = data !== undefined || context !== undefined;
  const url = flags.url ?? (isNamed ? undefined : environment.url);
  const token = flags.token ?? (isNamed ? undefined : environment.token);
  const source = flags.url === undefined ? 'ROOKERY_URL' : '--url';
  if (url !== undefined && token !== undefined) return { url, token, source };
  if (url === undefined) {
    const kept = await keptLogin(flags, environment);
    return kept && { url: kept.url, token: token ?? kept.token, source: kept.source };
  }
  // A token is only ever sent to the hub that it is of.
  const kept = await loginOf(url, flags, environment);
  return { url: kept?.url ?? url, ...(kept && { token: kept.token }), source };
}

type KeptLogin = Credentials & { readonly source: string };

async function keptLogin(
  { data, context }: AccessFlags,
  environment: CliEnvironment,
): Promise<KeptLogin | undefined> {
  if (data !== undefined) return clusterLogin(resolve(data), '--data');
  const contexts = new ContextStore(environment.configDir);
  const name = context ?? environment.context;
  const chosen = name === undefined ? await contexts.current() : await contexts.get(name);
  if (chosen) return ofContext(chosen);
  const others = await contexts.list();
  if (others.length > 0) {
    throw CliErrors.CONTEXT_NOT_CHOSEN({ names: others.map((one) => one.name).join(', ') });
  }
  return clusterLogin(defaultDataDir, 'the cluster in');
}

/** The login that is kept for a hub; of several the one in use, and never just any of them. */
async function loginOf(
  url: string,
  flags: AccessFlags,
  environment: CliEnvironment,
): Promise<Credentials | undefined> {
  const kept = await keptLogin(flags, environment).catch((error: unknown) => {
    if (flags.data !== undefined || flags.context !== undefined) throw error;
    return undefined;
  });
  if (kept && sameHub(kept.url, url)) return kept;
  if (flags.data !== undefined || flags.context !== undefined) return undefined;
  const known = await new ContextStore(environment.configDir).list();
  const fitting = known.filter((one) => sameHub(one.url, url));
  return fitting.length === 1 ? fitting[0] : undefined;
}

const ofContext = (context: Context): KeptLogin => ({
  ...context,
  source: `context ${context.name}`,
});

async function clusterLogin(dataDir: string, said: string): Promise<KeptLogin | undefined> {
  const login = await readCredentials(join(dataDir, 'credentials.json'));
  return login && { ...login, source: `${said} ${dataDir}` };
}

import { ContextStore, nameOfCluster, type CliEnvironment, type Credentials } from '@rookery/cli';
import { readJsonFile, requireCluster, type ClusterPaths } from './cluster-file.js';
import { Login } from './cluster-summary.js';

/** What commands without options talk to after `up`. */
export interface LocalLogin {
  /** The cluster's own context. */
  readonly context: string;
  /** The context in use: another one that was there before stays it. */
  readonly current: string;
}

/**
 * Logs the user in to a local cluster under a name: the wished one, the one that the cluster has
 * already, or one of its folder's. It is used at once only where no other context is.
 * @throws CONTEXT_TAKEN
 */
export async function logIn(
  environment: CliEnvironment,
  paths: ClusterPaths,
  wished: string | undefined,
): Promise<LocalLogin | undefined> {
  const login = await readJsonFile(paths.credentials, Login);
  if (!login) return undefined;
  const { publicUrl, id } = await requireCluster(paths);
  const contexts = new ContextStore(environment.configDir);
  const kept: Credentials = { url: publicUrl, token: login.token, data: paths.dataDir };
  const name = wished ?? (await freeName(contexts, kept, id));
  const { used } = await contexts.keepAside(name, kept);
  return { context: name, current: used.name };
}

/** Forgets the logins that `logIn` wrote for that cluster. */
export async function logOut(environment: CliEnvironment, dataDir: string): Promise<void> {
  const contexts = new ContextStore(environment.configDir);
  for (const { name, data } of await contexts.list()) {
    if (data === dataDir) await contexts.delete(name);
  }
}

async function freeName(
  contexts: ContextStore,
  { data = '' }: Credentials,
  clusterId: string,
): Promise<string> {
  const all = await contexts.list();
  const present = all.find((one) => one.data === data);
  if (present) return present.name;
  const name = nameOfCluster(data);
  // Two folders may end in the same word; the cluster's id comes from the whole path.
  return all.some((one) => one.name === name) ? `${name}-${clusterId.slice(0, 6)}` : name;
}

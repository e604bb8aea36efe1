import { readJsonFile, requireCluster, type ClusterPaths } from '../cluster/cluster-file.js';
import { Login } from '../cluster/cluster-summary.js';
import type { CliEnvironment } from './config/environment.js';
import {
  readCredentials,
  removeCredentials,
  userCredentialsFile,
  writeCredentials,
} from './credentials.js';

/**
 * Logs the user in to a local cluster, so that the next command needs no options.
 * A login that `rookery login` made stays: it is somebody's own choice.
 */
export async function logIn(environment: CliEnvironment, paths: ClusterPaths): Promise<void> {
  const file = userCredentialsFile(environment);
  const present = await readCredentials(file).catch(() => undefined);
  if (present && present.data === undefined) return;
  const login = await readJsonFile(paths.credentials, Login);
  if (!login) return;
  const { publicUrl } = await requireCluster(paths);
  await writeCredentials(file, { url: publicUrl, token: login.token, data: paths.dataDir });
}

/** Forgets the login that `logIn` wrote for that cluster. */
export async function logOut(environment: CliEnvironment, dataDir: string): Promise<void> {
  const file = userCredentialsFile(environment);
  const present = await readCredentials(file).catch(() => undefined);
  if (present?.data === dataDir) await removeCredentials(file);
}

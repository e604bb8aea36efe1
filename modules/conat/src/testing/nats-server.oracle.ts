import {
  access,
  constants,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rm,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Reverter, SystemExec, waitFor, type Exec, type SpawnedProcess } from '@rookery/core';

export interface NatsServerOptions {
  /** Default: the one that the entry script brings, see {@link natsServerPath}. */
  readonly executable?: string;
  /** Default `oracle`; nodes of a cluster need different ones. */
  readonly name?: string;
  /** Added to the configuration: accounts, users, limits, a cluster. */
  readonly config?: string;
  /** Default true; the store lies in the server's own folder unless `storeDir` says otherwise. */
  readonly jetStream?: boolean;
  /** Where JetStream stores, for measurements on a certain volume; the caller removes it. */
  readonly storeDir?: string;
  /** `always` makes every acknowledged message durable, as conat's are. */
  readonly syncInterval?: 'always';
  /** Put before the command, as `['taskset', '-c', '0']`. */
  readonly wrapper?: readonly string[];
  readonly exec?: Exec;
}

const startDeadlineMs = 30_000;
const stopDeadlineMs = 10_000;

/** Where `./rookery test` and `bench` put nats-server. */
export function natsServerPath(): string {
  return join(process.env.ROOKERY_CACHE ?? '/var/cache/rookery', 'go', 'bin', 'nats-server');
}

/** Why tests against a real nats-server cannot run here; undefined when they can. */
export async function natsServerMissing(path = natsServerPath()): Promise<string | undefined> {
  try {
    await access(path, constants.X_OK);
    return undefined;
  } catch {
    return `there is no nats-server at ${path} (./rookery test brings it)`;
  }
}

/**
 * A real nats-server on free ports of the loopback, with a folder of its own: what conat is held
 * against. It keeps its ports and its store over a {@link restart}.
 */
export class NatsServerOracle {
  private child: SpawnedProcess | undefined;
  private ports = { tcp: -1, webSocket: -1, monitoring: -1 };

  private constructor(
    readonly folder: string,
    private readonly options: NatsServerOptions,
    private readonly exec: Exec,
  ) {}

  static async start(options: NatsServerOptions = {}): Promise<NatsServerOracle> {
    await using undo = new Reverter();
    const folder = await mkdtemp(join(tmpdir(), 'nats-server-'));
    undo.add(() => rm(folder, { recursive: true, force: true }));
    const server = new NatsServerOracle(folder, options, options.exec ?? new SystemExec());
    undo.add(() => server.kill());
    await server.run();
    undo.success();
    return server;
  }

  /** `nats://127.0.0.1:<port>` */
  get tcpUrl(): string {
    return `nats://127.0.0.1:${this.ports.tcp}`;
  }

  /** `ws://127.0.0.1:<port>/conat`; nats-server takes any path. */
  get url(): string {
    return `ws://127.0.0.1:${this.ports.webSocket}/conat`;
  }

  /** Its monitoring pages: `/varz`, `/connz`, `/subsz` … */
  get monitoringUrl(): string {
    return `http://127.0.0.1:${this.ports.monitoring}`;
  }

  get pid(): number | undefined {
    return this.child?.pid;
  }

  /** Stops it as an operator would, and starts it again on the same ports and store. */
  async restart(): Promise<void> {
    await this.kill();
    await this.run();
  }

  /** SIGKILL; {@link restart} brings it back. */
  async crash(): Promise<void> {
    const { child } = this;
    this.child = undefined;
    child?.kill('SIGKILL');
    await child?.ended;
  }

  /** Ends the server at once and removes its folder. */
  async close(): Promise<void> {
    await this.kill();
    await rm(this.folder, { recursive: true, force: true });
  }

  private async kill(): Promise<void> {
    const { child } = this;
    this.child = undefined;
    if (!child) return;
    child.kill('SIGTERM');
    const timer = setTimeout(() => child.kill('SIGKILL'), stopDeadlineMs);
    await child.ended;
    clearTimeout(timer);
  }

  private async run(): Promise<void> {
    const config = join(this.folder, 'nats-server.conf');
    const portsFolder = join(this.folder, 'ports');
    await rm(portsFolder, { recursive: true, force: true });
    await mkdir(portsFolder);
    await writeFile(config, this.configuration(portsFolder));
    const executable = this.options.executable ?? natsServerPath();
    const command = [...(this.options.wrapper ?? []), executable, '-c', config];
    const child = this.exec.spawn(command);
    this.child = child;
    child.stdout.resume();
    child.stderr.resume();
    let problem: string | undefined;
    void child.ended.then(({ exit, stderr, error }) => {
      problem = `nats-server ended (${exit ?? error?.message}): ${stderr}`;
    });
    await waitFor(
      'nats-server listens',
      async () => {
        if (problem !== undefined) throw new Error(problem);
        return this.readPorts(portsFolder);
      },
      { timeoutMs: startDeadlineMs, everyMs: 10 },
    );
  }

  /** nats-server writes `<its name>_<pid>.ports` when it listens. */
  private async readPorts(folder: string): Promise<boolean> {
    const file = (await readdir(folder)).find((name) => name.endsWith('.ports'));
    const text = file === undefined ? '' : await readFile(join(folder, file), 'utf8');
    if (!text.trimEnd().endsWith('}')) return false;
    const urls = JSON.parse(text) as Record<'nats' | 'websocket' | 'monitoring', string[]>;
    this.ports = {
      tcp: portOf(urls.nats[0]!),
      webSocket: portOf(urls.websocket[0]!),
      monitoring: portOf(urls.monitoring[0]!),
    };
    return true;
  }

  private configuration(portsFolder: string): string {
    const { options, ports } = this;
    const store = options.storeDir ?? join(this.folder, 'jetstream');
    const sync = options.syncInterval ? `, sync_interval: ${options.syncInterval}` : '';
    return `
      server_name: ${options.name ?? 'oracle'}
      host: "127.0.0.1"
      port: ${ports.tcp}
      http: "127.0.0.1:${ports.monitoring}"
      ports_file_dir: "${portsFolder}"
      websocket { host: "127.0.0.1", port: ${ports.webSocket}, no_tls: true, compression: false }
      ${options.jetStream === false ? '' : `jetstream { store_dir: "${store}"${sync} }`}
      ${options.config ?? ''}
    `;
  }
}

const portOf = (url: string): number => Number(new URL(url.replace(/^nats/, 'http')).port);

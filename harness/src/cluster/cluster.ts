import { chmod, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { RookeryClient } from '@rookery/client';
import { readMounts, SystemExec, type ExecResult } from '@rookery/core';

const exec = new SystemExec();
const upTimeoutMs = 240_000;

/** Repository root, seen from source (jest) and from the build alike: harness/<src|dist>/cluster. */
const repositoryRoot = join(import.meta.dirname, '..', '..', '..');

export interface ClusterOptions {
  readonly hosts?: number;
  /** What the hub is set to beyond what `up` sets, by the names of docs: shorter waits, for example. */
  readonly hubSettings?: Readonly<Record<string, string>>;
}

/** A host's own processes, as its supervisor notes them. */
export interface HostProcesses {
  readonly supervisor: number;
  readonly agent: number;
  readonly ingress: number;
}

interface ProcessFile {
  readonly supervisor: { readonly pid: number };
  readonly children: Readonly<Record<'agent' | 'ingress', { readonly pid: number }>>;
}

/** A hub and hosts on this machine as a person starts them: by the command line, as processes. */
export class Cluster implements AsyncDisposable {
  private constructor(
    readonly folder: string,
    readonly port: number,
    private readonly options: ClusterOptions,
  ) {}

  private connected: RookeryClient | undefined;

  static async start(options: ClusterOptions = {}): Promise<Cluster> {
    const folder = await mkdtemp(join(tmpdir(), 'rookery-cluster-'));
    // Postgres is another user and must get in.
    await chmod(folder, 0o755);
    const cluster = new Cluster(folder, await freePortRange(), options);
    try {
      await cluster.up();
    } catch (error) {
      await cluster.destroy().catch(() => undefined);
      throw error;
    }
    return cluster;
  }

  /** `rookery up --detach`; also brings a killed cluster back. */
  async up(): Promise<unknown> {
    const { hosts = 2, hubSettings } = this.options;
    const env = hubSettings && { ROOKERY_HUB_MAIN: await this.hubMain(hubSettings) };
    const { exit, stdout, stderr } = await this.cli(
      ['up', '--detach', '--json', '--hosts', String(hosts), '--port', String(this.port)],
      { timeoutMs: upTimeoutMs, ...(env && { env }) },
    );
    if (exit !== 0) throw new Error(`up ended with ${exit}: ${stderr}`);
    await this.connected?.close();
    const { url, token } = JSON.parse(
      await readFile(join(this.folder, 'credentials.json'), 'utf8'),
    ) as { url: string; token: string };
    this.connected = new RookeryClient({ url, token });
    return JSON.parse(stdout) as unknown;
  }

  /** `up` hands none of its caller's settings on: a program of our own in the hub's place does. */
  private async hubMain(settings: Readonly<Record<string, string>>): Promise<string> {
    const main = pathToFileURL(join(repositoryRoot, 'hub/dist/main.js')).href;
    const lines = [
      `Object.assign(process.env, ${JSON.stringify(settings)});`,
      `await import(${JSON.stringify(main)});`,
    ];
    await writeFile(this.ownHubMain, `${lines.join('\n')}\n`);
    return this.ownHubMain;
  }

  /** Beside the folder, which must be empty at first. */
  private get ownHubMain(): string {
    return `${this.folder}-hub.mjs`;
  }

  get client(): RookeryClient {
    if (!this.connected) throw new Error('the cluster is not up');
    return this.connected;
  }

  get url(): string {
    return this.client.url;
  }

  async token(): Promise<string> {
    const text = await readFile(join(this.folder, 'credentials.json'), 'utf8');
    return (JSON.parse(text) as { token: string }).token;
  }

  /** Runs the command line against this cluster. Never throws for its exit status. */
  async cli(
    args: readonly string[],
    options: { timeoutMs?: number; input?: string; env?: Readonly<Record<string, string>> } = {},
  ): Promise<ExecResult> {
    const main = join(repositoryRoot, 'cluster/dist/main.js');
    return exec.run([process.execPath, main, ...args, '--data', this.folder], {
      timeoutMs: options.timeoutMs ?? 120_000,
      okExits: Array.from({ length: 256 }, (_, n) => n),
      ...(options.input !== undefined && { input: options.input }),
      ...(options.env && { env: options.env }),
    });
  }

  /** Runs a command in a project and gives what it printed. @throws when it fails */
  async run(projectId: string, command: string): Promise<string> {
    const call = await this.client.exec(projectId, { command: ['sh', '-c', command] });
    call.stdin.end();
    const [stdout, stderr, { exit }] = await Promise.all([
      textOf(call.stdout),
      textOf(call.stderr),
      call.result,
    ]);
    if (exit !== 0) throw new Error(`${command} ended with ${exit}: ${stdout}${stderr}`);
    return stdout;
  }

  /** Where a host's btrfs volume is mounted. */
  async volumeOf(hostName: string): Promise<string> {
    const folder = join(this.folder, 'hosts', hostName);
    const { path } =
      (await readMounts()).find(
        (mount) => mount.path.startsWith(`${folder}/`) && mount.fsType === 'btrfs',
      ) ?? {};
    if (!path) throw new Error(`no btrfs volume is mounted beneath ${folder}`);
    return path;
  }

  async processesOf(hostName: string): Promise<HostProcesses> {
    const path = join(this.folder, 'hosts', hostName, 'processes.json');
    const { supervisor, children } = JSON.parse(await readFile(path, 'utf8')) as ProcessFile;
    return { supervisor: supervisor.pid, agent: children.agent.pid, ingress: children.ingress.pid };
  }

  /** Processes whose command line names this cluster's folder, or whose environment does. */
  async processes(): Promise<number[]> {
    const { stdout } = await exec.run(['ps', '-eo', 'pid=,args=', 'e', 'ww']);
    return stdout
      .split('\n')
      .filter((line) => line.includes(this.folder) && !line.includes('ps -eo'))
      .map((line) => Number.parseInt(line, 10))
      .filter((pid) => Number.isInteger(pid) && pid !== process.pid);
  }

  async destroy(): Promise<void> {
    await this.connected?.close();
    this.connected = undefined;
    const { exit, stderr } = await this.cli(['down', '--destroy', '--yes'], {
      timeoutMs: 180_000,
    });
    await rm(this.folder, { recursive: true, force: true }).catch(() => undefined);
    await rm(this.ownHubMain, { force: true });
    if (exit !== 0) throw new Error(`down --destroy ended with ${exit}: ${stderr}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.destroy();
  }
}

export async function textOf(stream: NodeJS.ReadableStream): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(Buffer.from(chunk as Uint8Array));
  return Buffer.concat(chunks).toString('utf8');
}

/**
 * A port whose next forty are free as well: a cluster counts its hosts' ports up from the hub's.
 * All lie below the range from which the kernel takes ports for outgoing connections.
 */
async function freePortRange(): Promise<number> {
  for (let tries = 0; tries < 50; tries += 1) {
    const base = 20_000 + Math.floor(Math.random() * 12_000);
    const offsets = [0, 10, 11, 12, 20, 21, 22, 30, 31, 32];
    const free = await Promise.all(offsets.map((offset) => portIsFree(base + offset)));
    if (free.every(Boolean)) return base;
  }
  throw new Error('no range of free ports found');
}

function portIsFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => resolve(false));
    server.listen(port, '127.0.0.1', () => {
      const { port: bound } = server.address() as AddressInfo;
      server.close(() => resolve(bound === port));
    });
  });
}

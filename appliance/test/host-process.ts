import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  CodedError,
  createLogger,
  MiB,
  SystemExec,
  waitFor,
  type ProcessEnd,
  type SpawnedProcess,
} from '@rookery/core';
import { PodmanDriver } from '@rookery/runner';

const exec = new SystemExec();
const cache = '/var/cache/rookery';
const main = join(import.meta.dirname, '../dist/main.js');

/** A whole host as processes, in a data folder of its own; takes everything away at the end. */
export class HostProcess {
  readonly ports: { http: number; ssh: number; agent: number };
  process: SpawnedProcess | undefined;
  /** What it wrote last. */
  log = '';

  private constructor(
    readonly data: string,
    private readonly env: Readonly<Record<string, string>>,
    ports: readonly number[],
  ) {
    const [http = 0, ssh = 0, agent = 0] = ports;
    this.ports = { http, ssh, agent };
  }

  static async create(hub: { url: string; joinToken: string }, cidr: string, key: string) {
    const data = await mkdtemp(join(tmpdir(), 'rookery-appliance-'));
    const ports = await freePorts(3);
    const env = {
      ROOKERY_DATA: data,
      ROOKERY_HUB_URL: hub.url,
      ROOKERY_JOIN_TOKEN: hub.joinToken,
      ROOKERY_HOST_NAME: 'test host',
      ROOKERY_PORT: String(ports[0]),
      ROOKERY_SSH_PORT: String(ports[1]),
      ROOKERY_AGENT_PORT: String(ports[2]),
      ROOKERY_VOLUME_BYTES: String(3 * 1024 * MiB),
      ROOKERY_PROJECT_CIDR: cidr,
      ROOKERY_HOST_KEY: key,
      ROOKERY_LOCAL_IMAGES: JSON.stringify({
        'localhost/rookery/debian:13': `${cache}/images/debian-13.tar`,
      }),
      ROOKERY_TOOLS_DIR: `${cache}/tools`,
    };
    return new HostProcess(data, env, ports);
  }

  start(more: Readonly<Record<string, string>> = {}): void {
    this.process = exec.spawn([process.execPath, main], { env: { ...this.env, ...more } });
    this.process.stdin.end();
    const keep = (chunk: Buffer): void => {
      this.log = (this.log + chunk.toString('utf8')).slice(-200_000);
    };
    this.process.stdout.on('data', keep);
    this.process.stderr.on('data', keep);
  }

  /** Settings for backups to a folder beside the data. */
  async withBackups(): Promise<Record<string, string>> {
    const passwordFile = join(this.data, 'backup-password');
    await writeFile(passwordFile, 'secret\n', { mode: 0o600 });
    return {
      ROOKERY_BACKUP_REPOSITORY: join(this.data, 'backups'),
      ROOKERY_BACKUP_PASSWORD_FILE: passwordFile,
    };
  }

  /** A second supervisor beside the first; it must not stay. */
  async startAgain(): Promise<ProcessEnd> {
    const second = exec.spawn([process.execPath, main], { env: this.env });
    second.stdin.end();
    return second.ended;
  }

  homeFile(projectId: string, path: string): string {
    return join(this.data, 'volume', `project-${projectId}`, 'home', path);
  }

  /** Pids of supervisor and children, as the host itself remembers them. */
  async pids(): Promise<{ supervisor: number; agent: number; ingress: number }> {
    const text = await readFile(join(this.data, 'processes.json'), 'utf8');
    const { supervisor, children } = JSON.parse(text) as {
      supervisor: { pid: number };
      children: Record<string, { pid: number }>;
    };
    const agent = children['agent']?.pid ?? 0;
    return { supervisor: supervisor.pid, agent, ingress: children['ingress']?.pid ?? 0 };
  }

  async stop(): Promise<number | null> {
    this.process?.kill('SIGTERM');
    const end = await this.process?.ended;
    this.process = undefined;
    return end?.exit ?? null;
  }

  async readyz(): Promise<{ status: string; hub: string } | undefined> {
    const response = await fetch(`http://127.0.0.1:${this.ports.agent}/readyz`).catch(
      () => undefined,
    );
    return response && ((await response.json()) as { status: string; hub: string });
  }

  async untilReady(hub = 'connected'): Promise<void> {
    try {
      await waitFor(
        'the host is ready',
        async () => {
          const ready = await this.readyz();
          return ready?.status === 'ok' && ready.hub === hub;
        },
        { timeoutMs: 60_000, everyMs: 100 },
      );
    } catch (error) {
      throw new Error(`the host did not get ready:\n${this.log}`, { cause: error });
    }
  }

  /** The tmpfs that a host mounts for its containers' run files. */
  private get runFolder(): string {
    return `/run/rookery/${this.env['ROOKERY_HOST_KEY'] ?? ''}`;
  }

  /** Removes what the host would leave running, with the driver's own means. */
  private async endContainers(): Promise<void> {
    const driver = new PodmanDriver(
      exec,
      {
        hostKey: this.env['ROOKERY_HOST_KEY'] ?? '',
        stateDir: join(this.data, 'containers'),
        runDir: join(this.runFolder, 'c'),
        toolsDir: this.env['ROOKERY_TOOLS_DIR'] ?? '',
        network: { cidr: this.env['ROOKERY_PROJECT_CIDR'] ?? '' },
      },
      createLogger('test', 'silent'),
    );
    await driver.open();
    await driver.destroy();
  }

  /** Ends processes and containers, unmounts, and removes the data folder. */
  async destroy(): Promise<void> {
    await this.stop();
    await this.endContainers();
    for (let pass = 0; pass < 3; pass += 1) {
      const text = await readFile('/proc/self/mountinfo', 'utf8');
      const mounts = text
        .split('\n')
        .map((line) => line.split(' ')[4] ?? '')
        .filter((path) =>
          [this.data, this.runFolder].some((at) => `${path}/`.startsWith(`${at}/`)),
        );
      for (const path of mounts.reverse()) {
        await exec.run(['umount', '--lazy', path], { okExits: [0, 1, 32] });
      }
    }
    const { stdout } = await exec.run([
      'losetup',
      '-n',
      '-O',
      'NAME',
      '-j',
      `${this.data}/volume.btrfs`,
    ]);
    for (const device of stdout.split('\n').filter(Boolean)) {
      await exec.run(['losetup', '-d', device.trim()], { okExits: [0, 1] }).catch((error) => {
        if (!CodedError.is(error)) throw error;
      });
    }
    await rm(this.runFolder, { recursive: true, force: true });
    await rm(this.data, { recursive: true, force: true });
  }
}

async function freePorts(count: number): Promise<number[]> {
  const servers = Array.from({ length: count }, () => createServer());
  const ports: number[] = [];
  for (const server of servers) {
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    ports.push((server.address() as AddressInfo).port);
  }
  for (const server of servers) await new Promise((resolve) => server.close(resolve));
  return ports;
}

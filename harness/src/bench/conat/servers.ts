import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { NatsServerOracle } from '@rookery/conat/testing';
import { SystemExec, waitFor, type Reverter } from '@rookery/core';
import { freePort } from '../free-port.js';

const exec = new SystemExec();
const startDeadlineMs = 60_000;

/** A broker that is measured: a process of its own. */
export interface MeasuredServer {
  readonly name: string;
  /** `ws://…` */
  readonly url: string;
  readonly pid: number;
  readonly stop: () => Promise<void>;
}

export interface ServerOptions {
  /** Where messages are stored; kept over a stop. */
  readonly store: string;
  /** `taskset -c …`, the same for both. */
  readonly cores: string;
  /** nats-server fsyncs each message; conat always does. */
  readonly durable: boolean;
}

/** `rookery conat serve`, as a user starts it. */
export async function startConat(options: ServerOptions, undo: Reverter): Promise<MeasuredServer> {
  const port = await freePort();
  const cli = join(import.meta.dirname, '../../../../modules/cli/dist/main.js');
  const child = exec.spawn([
    'taskset',
    '-c',
    options.cores,
    process.execPath,
    cli,
    'conat',
    'serve',
    '--port',
    String(port),
    '--store',
    options.store,
    '--allow-all',
  ]);
  child.stdout.resume();
  child.stderr.resume();
  const stop = async (): Promise<void> => {
    child.kill('SIGINT');
    await child.ended;
  };
  undo.add(stop);
  await waitFor('conat answers', () => isListening(port), { timeoutMs: startDeadlineMs });
  return { name: 'conat', url: `ws://127.0.0.1:${port}/conat`, pid: child.pid!, stop };
}

export async function startNats(options: ServerOptions, undo: Reverter): Promise<MeasuredServer> {
  const server = await NatsServerOracle.start({
    storeDir: options.store,
    wrapper: ['taskset', '-c', options.cores],
    config: 'max_payload: 8MB',
    ...(options.durable && { syncInterval: 'always' }),
  });
  const stop = (): Promise<void> => server.close();
  undo.add(stop);
  return { name: 'nats-server', url: server.url, pid: server.pid!, stop };
}

async function isListening(port: number): Promise<boolean> {
  const response = await fetch(`http://127.0.0.1:${port}/`).catch(() => undefined);
  await response?.arrayBuffer();
  return response !== undefined;
}

/** Processor time of a process with all its threads, in microseconds. */
export async function cpuUs(pid: number): Promise<number> {
  const stat = await readFile(`/proc/${pid}/stat`, 'latin1');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const ticks = Number(fields[11]) + Number(fields[12]);
  return (ticks * 1_000_000) / 100;
}

/** Resident memory in bytes. */
export async function residentBytes(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'latin1');
  return Number(/VmRSS:\s+(\d+) kB/.exec(status)?.[1] ?? 0) * 1024;
}

/** A btrfs volume of the benchmark's own, as a host has it. */
export async function makeVolume(folder: string, undo: Reverter): Promise<string> {
  const image = join(folder, 'volume.btrfs');
  const mountpoint = join(folder, 'volume');
  await exec.run(['truncate', '-s', '8G', image]);
  await exec.run(['mkfs.btrfs', '-q', image]);
  await exec.run(['mkdir', '-p', mountpoint]);
  await exec.run(['mount', '-o', 'loop,noatime', image, mountpoint]);
  undo.add(async () => {
    await exec.run(['umount', mountpoint]);
    await rm(image, { force: true });
  });
  return mountpoint;
}

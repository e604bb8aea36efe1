import { once } from 'node:events';
import { BlockList, isIP } from 'node:net';
import { hostname } from 'node:os';
import { Supervisor, waitFor, type Exec, type SupervisedCommand } from '@rookery/core';
import { z } from 'zod';
import { dialAddress } from './cluster-parts.js';
import { ClusterErrors } from './cluster.errors.js';
import { parseJson } from './preflight.js';

/** Where `join` keeps its host unless told otherwise; a cluster of `up` may be beside it. */
export const defaultHostDataDir = '/var/lib/rookery-host';
const defaultPort = 7710;
const stopMs = 60_000;

export interface JoiningHostOptions {
  readonly hubUrl: string;
  readonly joinToken?: string;
  readonly dataDir: string;
  readonly name?: string;
  readonly listen?: string;
  readonly port?: number;
  readonly publicUrl?: string;
  readonly region?: string;
  readonly volumeBytes?: number;
}

/**
 * Settings of the appliance for a host that joins; what is not wished is the environment's, or else
 * the appliance's default.
 * @throws LISTEN_ADDRESS_NEEDED
 */
export async function joinSettings(
  wish: JoiningHostOptions,
  environment: NodeJS.ProcessEnv,
  exec: Exec,
): Promise<Record<string, string>> {
  const { hubUrl, joinToken, dataDir, region, publicUrl, volumeBytes } = wish;
  const listen = wish.listen ?? environment['ROOKERY_LISTEN'] ?? (await listenFor(hubUrl, exec));
  const port = wish.port ?? Number(environment['ROOKERY_PORT'] ?? defaultPort);
  return {
    ROOKERY_DATA: dataDir,
    ROOKERY_HUB_URL: hubUrl,
    ROOKERY_HOST_NAME: wish.name ?? environment['ROOKERY_HOST_NAME'] ?? hostname(),
    ROOKERY_LISTEN: listen,
    ROOKERY_PORT: String(port),
    ROOKERY_SSH_PORT: environment['ROOKERY_SSH_PORT'] ?? String(port + 1),
    ROOKERY_AGENT_PORT: environment['ROOKERY_AGENT_PORT'] ?? String(port + 2),
    ...(joinToken !== undefined && { ROOKERY_JOIN_TOKEN: joinToken }),
    ...(region !== undefined && { ROOKERY_REGION: region }),
    ...(publicUrl !== undefined && { ROOKERY_PUBLIC_URL: publicUrl }),
    ...(volumeBytes !== undefined && { ROOKERY_VOLUME_BYTES: String(volumeBytes) }),
  };
}

const loopback = new BlockList();
loopback.addSubnet('127.0.0.0', 8, 'ipv4');
loopback.addAddress('::1', 'ipv6');

/**
 * A hub of this machine reaches the host on loopback. Others need an address that only the operator
 * can choose: what listens there is open to that network.
 * @throws LISTEN_ADDRESS_NEEDED
 */
async function listenFor(hubUrl: string, exec: Exec): Promise<string> {
  const name = new URL(hubUrl).hostname.replace(/^\[|\]$/g, '');
  const family = isIP(name) === 6 ? 'ipv6' : 'ipv4';
  if (name === 'localhost' || (isIP(name) !== 0 && loopback.check(name, family))) {
    return '127.0.0.1';
  }
  const own = isIP(name) === 0 ? undefined : await addressTowards(name, exec);
  const hint = own === undefined ? 'an address of this machine' : own;
  throw ClusterErrors.LISTEN_ADDRESS_NEEDED({ hubUrl, hint });
}

const Routes = z.array(z.looseObject({ prefsrc: z.string().optional() }));

async function addressTowards(address: string, exec: Exec): Promise<string | undefined> {
  const argv = ['ip', '-json', 'route', 'get', address];
  const { stdout } = await exec.run(argv, { okExits: [0, 1, 2] });
  return Routes.safeParse(parseJson(stdout)).data?.[0]?.prefsrc;
}

/**
 * Runs a host until the signal, or until it cannot go on. Its own supervisor keeps its processes
 * running; its log goes to stderr. A hub that is away is waited for.
 * @throws PART_FAILED when it cannot start; its log says why
 */
export async function runHost(
  command: SupervisedCommand,
  settings: Readonly<Record<string, string>>,
  options: { readonly signal: AbortSignal; readonly onReady: () => Promise<void> },
): Promise<void> {
  const { ROOKERY_LISTEN: listen = '', ROOKERY_AGENT_PORT: port } = settings;
  const ended = new AbortController();
  let failed = false;
  const supervisor = new Supervisor(command, {
    stopTimeoutMs: stopMs,
    onEvent: (event) => {
      if (event.kind !== 'exited' || event.restartInMs !== undefined) return;
      failed = !options.signal.aborted;
      ended.abort();
    },
  });
  const stop = AbortSignal.any([options.signal, ended.signal]);
  try {
    await supervisor.start();
    const serves = (): Promise<boolean> => isServing(`http://${dialAddress(listen)}:${port}`);
    const waiting = { timeoutMs: Infinity, everyMs: 200, signal: stop };
    await waitFor('the host serves its hub', serves, waiting);
    await options.onReady();
    if (!stop.aborted) await once(stop, 'abort');
  } catch (error) {
    if (!stop.aborted) throw error;
  } finally {
    await supervisor.stop();
  }
  if (!failed) return;
  const reason = 'the last lines of its log say why';
  throw ClusterErrors.PART_FAILED({ name: command.name, reason, log: 'on stderr' });
}

const Readiness = z.object({ status: z.string(), hub: z.string() });

async function isServing(agent: string): Promise<boolean> {
  try {
    const answer = await fetch(`${agent}/readyz`, { signal: AbortSignal.timeout(2000) });
    const { status, hub } = Readiness.parse(await answer.json());
    return status === 'ok' && hub === 'connected';
  } catch {
    return false;
  }
}

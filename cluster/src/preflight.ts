import { readdir, readFile, readlink, stat, statfs } from 'node:fs/promises';
import { createServer } from 'node:net';
import { dirname } from 'node:path';
import { formatBytes, GiB, type Exec } from '@rookery/core';
import { z } from 'zod';
import { ClusterErrors } from './cluster.errors.js';
import { portsOf, type TakenNetworks } from './cluster-plan.js';
import type { ClusterFile } from './cluster-file.js';

/** Postgres, two volumes with an image each, and room to work. */
const freeBytesMin = 6 * GiB;

/** Used by common programs even when no route shows it: podman, Kubernetes services. */
const reservedNetworks = ['10.88.0.0/16', '10.96.0.0/12'] as const;

/**
 * Postgres is another user than this one and must get through every folder above its own.
 * @throws DATA_DIR_CLOSED
 */
export async function checkWayIn(dataDir: string): Promise<void> {
  for (let folder = dataDir; ; folder = dirname(folder)) {
    if (((await stat(folder)).mode & 0o001) === 0) {
      throw ClusterErrors.DATA_DIR_CLOSED({ dataDir, folder });
    }
    if (folder === dirname(folder)) return;
  }
}

/** @throws DISK_TOO_FULL */
export async function checkSpace(dataDir: string): Promise<number> {
  const { bavail, bsize } = await statfs(dataDir);
  const free = bavail * bsize;
  if (free < freeBytesMin) {
    const needed = formatBytes(freeBytesMin);
    throw ClusterErrors.DISK_TOO_FULL({ dataDir, free: formatBytes(free), needed });
  }
  return free;
}

/** Tries every port of the cluster. @throws PORT_IN_USE */
export async function checkPorts(cluster: ClusterFile): Promise<void> {
  for (const { port, use } of portsOf(cluster)) {
    if (port > 65535 || !(await canListen(cluster.listen, port))) {
      throw ClusterErrors.PORT_IN_USE({ port, use });
    }
  }
}

function canListen(host: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => resolve(false));
    server.listen({ host, port, exclusive: true }, () => server.close(() => resolve(true)));
  });
}

const Routes = z.array(z.looseObject({ dst: z.string() }));
const Addresses = z.array(
  z.looseObject({
    addr_info: z.array(z.looseObject({ local: z.string(), prefixlen: z.int() })).default([]),
  }),
);

/**
 * Networks that this machine reaches or has, in every network namespace; a project's network must
 * not hide one, nor take addresses that another cluster's containers have.
 */
export async function takenNetworks(exec: Exec): Promise<TakenNetworks> {
  const routes = await exec.run(['ip', '-json', '-4', 'route', 'show', 'table', 'all']);
  const addresses = await exec.run(['ip', '-json', '-4', 'address', 'show']);
  return [
    ...reservedNetworks,
    ...Routes.parse(parseJson(routes.stdout))
      .map((route) => route.dst)
      .filter((dst) => /^\d+\./.test(dst)),
    ...Addresses.parse(parseJson(addresses.stdout)).flatMap((link) =>
      link.addr_info.map((one) => `${one.local}/${one.prefixlen}`),
    ),
    ...(await namespaceAddresses()),
  ];
}

/** Addresses that any process's network namespace has; one that nobody lives in is not seen. */
async function namespaceAddresses(): Promise<string[]> {
  const seen = new Set<string>();
  const found: string[] = [];
  for (const entry of await readdir('/proc')) {
    if (!/^\d+$/.test(entry)) continue;
    // A process may end while it is looked at.
    const namespace = await readlink(`/proc/${entry}/ns/net`).catch(() => undefined);
    if (namespace === undefined || seen.has(namespace)) continue;
    const trie = await readFile(`/proc/${entry}/net/fib_trie`, 'utf8').catch(() => undefined);
    if (trie === undefined) continue;
    seen.add(namespace);
    found.push(...localAddresses(trie));
  }
  return found;
}

/** @param trie `/proc/<pid>/net/fib_trie`, as proc(5) has it */
export function localAddresses(trie: string): string[] {
  const own = [...trie.matchAll(/\|-- (\S+)\n\s+\/32 host LOCAL/g)].map(([, one = '']) => one);
  return [...new Set(own)].filter((address) => !address.startsWith('127.'));
}

/** iproute2 prints nothing at all for an empty list. */
export const parseJson = (text: string): unknown => JSON.parse(text.trim() === '' ? '[]' : text);

import { readFile } from 'node:fs/promises';

/** State LISTEN in proc_net_tcp(5). */
const listen = '0A';

/**
 * TCP ports on which something listens in the network namespace of process `pid`, in order.
 * Undefined when the process has ended or is ending: its namespace is not told any more.
 */
export async function listeningPortsOf(pid: number): Promise<number[] | undefined> {
  const table = (name: string): Promise<string | undefined> =>
    readFile(`/proc/${pid}/net/${name}`, 'utf8').catch(() => undefined);
  const tcp = await table('tcp');
  // A kernel without IPv6 has no second table.
  return tcp === undefined ? undefined : listeningPortsIn(`${tcp}\n${(await table('tcp6')) ?? ''}`);
}

/** @param tables as in `/proc/<pid>/net/tcp`: number, address:port, peer, state … in hexadecimal */
export function listeningPortsIn(tables: string): number[] {
  const ports = new Set<number>();
  for (const [, port = '', state] of tables.matchAll(/^\s*\d+: \w+:(\w{4}) \w+:\w{4} (\w\w) /gm)) {
    if (state === listen) ports.add(Number.parseInt(port, 16));
  }
  return [...ports].sort((a, b) => a - b);
}

import { readFile, writeFile } from 'node:fs/promises';
import type { Exec } from '@rookery/core';
import type { ProjectId } from '@rookery/core/contract';
import { z } from 'zod';
import { RunnerErrors } from '../runner.errors.js';
import { addressAt, gatewayOf, parseCidr, type Cidr } from './cidr.js';
import { anyLinkPrefix, containerRules, hostRules } from './network-rules.js';

export interface ProjectNetworkOptions {
  readonly tag: string;
  readonly cidr: string;
  readonly hostPorts: readonly number[];
  readonly egress: 'internet' | 'none';
  readonly deniedCidrs: readonly string[];
  readonly resolvers: readonly string[];
}

/** One project's end of the network, as the kernel has it. */
export interface ProjectLink {
  readonly projectId: ProjectId;
  readonly name: string;
  readonly address: string;
}

const aliasPrefix = 'rookery:';
const Links = z.array(z.object({ ifname: z.string(), ifalias: z.string().optional() }));

/**
 * The projects' network: one veth pair a container, a /32 address each, one nftables table a host.
 *
 * The kernel is the only record. A link's number is its address, its alias names the project, and
 * it dies with the container's network namespace; so nothing can leak and nothing must be saved.
 */
export class ProjectNetwork {
  /** Addresses taken by this process; a link that `links` cannot show yet is among them. */
  private readonly reserved = new Map<number, ProjectId>();
  private readonly linkPrefix: string;
  private readonly table: string;
  private readonly cidr: Cidr;
  readonly gateway: string;

  constructor(
    private readonly exec: Exec,
    private readonly options: ProjectNetworkOptions,
  ) {
    this.cidr = parseCidr(options.cidr);
    this.gateway = gatewayOf(options.cidr);
    this.linkPrefix = `${anyLinkPrefix}${options.tag}-`;
    this.table = `rookery_${options.tag}`;
  }

  /** Sets up the host's side: forwarding, the gateway address, the rules. */
  async open(): Promise<void> {
    try {
      await writeFile('/proc/sys/net/ipv4/ip_forward', '1');
      await this.exec.run(['ip', 'address', 'replace', `${this.gateway}/32`, 'dev', 'lo']);
      await this.loadRules();
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      throw RunnerErrors.NETWORK_UNUSABLE({ reason }, { cause: error });
    }
  }

  async reserve(projectId: ProjectId): Promise<string> {
    const taken = new Set((await this.links()).map((link) => link.name));
    for (let number = 2; number < this.cidr.size - 1; number += 1) {
      if (this.reserved.has(number) || taken.has(this.linkName(number))) continue;
      this.reserved.set(number, projectId);
      return addressAt(this.cidr, number);
    }
    throw RunnerErrors.NETWORK_FULL({ cidr: this.options.cidr });
  }

  /** Gives the container whose first process is `pid` its address. */
  async attach(projectId: ProjectId, address: string, pid: number): Promise<void> {
    const number = this.numberOf(projectId);
    const name = this.linkName(number);
    await this.exec.run(['ip', '-batch', '-'], {
      input: [
        `link add ${name} type veth peer name eth0 netns ${pid}`,
        `link set ${name} alias ${aliasPrefix}${projectId} up`,
        `route replace ${address}/32 dev ${name}`,
        '',
      ].join('\n'),
    });
    // One shell inside the namespace: the order matters, the default route tells the init to go on.
    const inside = [
      'set -e',
      'cd /proc/sys/net',
      'echo 1 >ipv4/conf/all/route_localnet',
      'echo 0 2147483647 >ipv4/ping_group_range',
      '[ ! -e ipv6/conf/eth0 ] || echo 1 >ipv6/conf/eth0/disable_ipv6',
      `nft -f - <<'EOF'\n${containerRules}EOF`,
      `ip -batch - <<'EOF'`,
      'link set lo up',
      `addr add ${address}/32 dev eth0`,
      'link set eth0 up',
      `route add ${this.gateway} dev eth0`,
      `route add default via ${this.gateway}`,
      'EOF',
    ].join('\n');
    await this.exec.run(['nsenter', `--net=/proc/${pid}/ns/net`, 'sh', '-s'], { input: inside });
  }

  /** Takes back the project's address and link. Repeating does no harm. */
  async release(projectId: ProjectId): Promise<void> {
    for (const [number, owner] of this.reserved) {
      if (owner === projectId) this.reserved.delete(number);
    }
    for (const link of await this.links()) {
      if (link.projectId !== projectId) continue;
      // It may have gone with its namespace in the meantime.
      await this.exec.run(['ip', 'link', 'delete', link.name], { okExits: [0, 1] });
    }
  }

  async links(): Promise<ProjectLink[]> {
    const { stdout } = await this.exec.run(['ip', '-json', 'link', 'show', 'type', 'veth']);
    const links = Links.parse(JSON.parse(stdout.trim() === '' ? '[]' : stdout));
    return links.flatMap(({ ifname, ifalias }) => {
      if (!ifname.startsWith(this.linkPrefix)) return [];
      const number = Number(ifname.slice(this.linkPrefix.length));
      const projectId = ifalias?.startsWith(aliasPrefix) ? ifalias.slice(aliasPrefix.length) : '';
      return [{ projectId, name: ifname, address: addressAt(this.cidr, number) }];
    });
  }

  /** Removes all that this host has put on the machine, but not forwarding: others may need it. */
  async destroy(): Promise<void> {
    for (const link of await this.links()) {
      await this.exec.run(['ip', 'link', 'delete', link.name], { okExits: [0, 1] });
    }
    await this.exec.run(['nft', '-f', '-'], {
      input: `table inet ${this.table} {}\ndelete table inet ${this.table}\n`,
    });
    await this.exec.run(['ip', 'address', 'delete', `${this.gateway}/32`, 'dev', 'lo'], {
      okExits: [0, 2],
    });
  }

  private async loadRules(): Promise<void> {
    const rules = {
      ...this.options,
      table: this.table,
      linkPrefix: this.linkPrefix,
      gateway: this.gateway,
    };
    try {
      await this.exec.run(['nft', '-f', '-'], { input: hostRules(rules) });
    } catch {
      await this.exec.run(['nft', '-f', '-'], { input: hostRules(rules, true) });
    }
  }

  private linkName(number: number): string {
    return `${this.linkPrefix}${number}`;
  }

  private numberOf(projectId: ProjectId): number {
    for (const [number, owner] of this.reserved) if (owner === projectId) return number;
    throw RunnerErrors.NETWORK_UNUSABLE({ reason: `no address is reserved for ${projectId}` });
  }
}

/** The machine's resolvers; a stub on loopback does not exist inside a container. */
export async function systemResolvers(): Promise<string[]> {
  for (const file of ['/etc/resolv.conf', '/run/systemd/resolve/resolv.conf']) {
    const text = await readFile(file, 'utf8').catch(() => '');
    const servers = [...text.matchAll(/^nameserver\s+(\S+)/gm)].map((match) => match[1] ?? '');
    const real = servers.filter((server) => !server.startsWith('127.') && server !== '::1');
    if (real.length > 0) return real;
  }
  return [];
}

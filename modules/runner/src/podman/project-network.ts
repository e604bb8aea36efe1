import { readFile } from 'node:fs/promises';
import {
  CodedError,
  hostNetworkNames,
  ipRange,
  KeyedLock,
  NetworkClaims,
  type Exec,
} from '@rookery/core';
import type { Egress, ProjectId } from '@rookery/core/contract';
import { RunnerErrors } from '../runner.errors.js';
import { addressAt, gatewayOf, parseCidr, type Cidr } from './cidr.js';
import { KernelNetwork } from './network-state.js';
import {
  planNetwork,
  type NetworkAction,
  type NetworkActions,
  type ProjectLink,
} from './network.plan.js';
import { HostRules } from './host-rules.js';
import { containerRules, type ChangingRules, type HostEgress } from './network-rules.js';

export interface ProjectNetworkOptions {
  readonly hostKey: string;
  /** A folder of this host alone: while it is there, the range stays claimed. */
  readonly stateDir: string;
  readonly claimsDir: string;
  readonly cidr: string;
  readonly hostPorts: readonly number[];
  readonly egress: HostEgress;
  readonly deniedCidrs: readonly string[];
  readonly resolvers: readonly string[];
}

/** What the host's containers need of the network. */
export interface ContainersNetwork {
  /** The address that each container was given. */
  readonly addresses: Map<ProjectId, string>;
  /** Policies of projects that have one. */
  readonly egress: ReadonlyMap<ProjectId, Egress>;
}
type Wanted = () => Promise<ContainersNetwork>;

/**
 * The projects' network: one veth pair a container, a /32 address each, one nftables table a host.
 *
 * The kernel is the only record. A link's number is its address, its alias names the project, and
 * it dies with the container's network namespace; so nothing can leak and nothing must be saved.
 * The rest of the range is unreachable: what is meant for a project that has no link goes nowhere.
 */
export class ProjectNetwork {
  /** Addresses taken by this process; a link that `links` cannot show yet is among them. */
  private readonly reserved = new Map<number, ProjectId>();
  private readonly linkPrefix: string;
  private readonly range: Cidr;
  private readonly kernel: KernelNetwork;
  private readonly rules: HostRules;
  private readonly claims: NetworkClaims;
  readonly gateway: string;

  constructor(
    private readonly exec: Exec,
    private readonly options: ProjectNetworkOptions,
    /** Held over all that makes or removes one project's link. */
    private readonly locks: KeyedLock,
  ) {
    const { cidr, hostKey } = options;
    const names = hostNetworkNames(hostKey);
    this.range = parseCidr(cidr);
    this.gateway = gatewayOf(cidr);
    this.linkPrefix = names.linkPrefix;
    this.kernel = new KernelNetwork(exec, {
      names,
      cidr,
      range: this.range,
      gateway: this.gateway,
    });
    this.rules = new HostRules(exec, { ...options, ...names, gateway: this.gateway });
    this.claims = new NetworkClaims(options.claimsDir);
  }

  /**
   * Sets up the host's side: the claim, forwarding, the gateway address, the rules, the closed range.
   * @throws NETWORK_TAKEN, NETWORK_UNUSABLE
   */
  async open(): Promise<void> {
    const { hostKey, stateDir, cidr } = this.options;
    try {
      await this.claims.exclusively(async (locked) => {
        const holder = { hostKey, folder: stateDir };
        await locked.assertFree(cidr, holder);
        await this.kernel.assertFree();
        await locked.claim(cidr, holder);
      });
      await this.rules.open(await this.kernel.ownNetworks());
      await this.kernel.closeRange();
      await this.kernel.allowForwarding();
      await this.kernel.addGateway();
    } catch (error) {
      if (CodedError.is(error, 'NETWORK_TAKEN') || CodedError.is(error, 'INVALID_CONFIG')) {
        throw error;
      }
      const reason = error instanceof Error ? error.message : String(error);
      throw RunnerErrors.NETWORK_UNUSABLE({ reason }, { cause: error });
    }
  }

  async reserve(projectId: ProjectId): Promise<string> {
    const taken = new Set((await this.links()).map((link) => link.name));
    const count = this.range.size - 3;
    // A project's own number first: an address that was somebody's else is given out late.
    const first = hashOf(projectId) % count;
    for (let step = 0; step < count; step += 1) {
      const number = 2 + ((first + step) % count);
      if (this.reserved.has(number) || taken.has(this.linkName(number))) continue;
      this.reserved.set(number, projectId);
      return addressAt(this.range, number);
    }
    throw RunnerErrors.NETWORK_FULL({ cidr: this.options.cidr });
  }

  /**
   * Gives the container whose first process is `pid` its address, and its policy before that.
   * @returns the number of the host's end of its link
   */
  async attach(
    projectId: ProjectId,
    address: string,
    pid: number,
    egress?: Egress,
  ): Promise<number> {
    const name = this.linkName(this.numberOf(projectId));
    await this.rules.setPolicy(name, egress);
    const index = await this.kernel.addLink(name, address, projectId, pid);
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
    return index;
  }

  /** Takes back the project's address and link. Repeating does no harm. */
  async release(projectId: ProjectId): Promise<void> {
    for (const [number, owner] of this.reserved) {
      if (owner === projectId) this.reserved.delete(number);
    }
    for (const link of await this.links()) {
      if (link.projectId === projectId) await this.kernel.deleteLink(link.name);
    }
  }

  /** What a running project may reach from now on; not running: nothing to do. */
  async setPolicy(projectId: ProjectId, egress: Egress | undefined): Promise<void> {
    for (const link of await this.links()) {
      if (link.projectId === projectId) await this.rules.setPolicy(link.name, egress);
    }
  }

  links(): Promise<ProjectLink[]> {
    return this.kernel.links();
  }

  /**
   * Compares everything with what should be, and mends it: routes and rules that somebody took
   * away come back, links that are nobody's go.
   * @param wanted of all containers, asked again before each change; @returns what was done
   */
  async repair(wanted: Wanted): Promise<NetworkAction[]> {
    const now = await wanted();
    const intact = await this.rules.isIntact(await this.rulesFor(now));
    const plan = planNetwork(
      { cidr: this.options.cidr, addresses: this.withReserved(now.addresses) },
      await this.kernel.state(intact),
    );
    for (const action of plan) {
      const perform = this.handlers(wanted)[action.kind] as (
        action: NetworkAction,
      ) => Promise<void>;
      await perform(action);
    }
    return plan;
  }

  /** Removes all that this host has put on the machine, but not forwarding: others may need it. */
  async destroy(): Promise<void> {
    const { hostKey, stateDir } = this.options;
    for (const link of await this.links()) await this.kernel.deleteLink(link.name);
    await this.rules.remove();
    await this.kernel.deleteGateway();
    await this.kernel.openRange();
    await this.claims.release({ hostKey, folder: stateDir });
  }

  private handlers(wanted: Wanted): {
    readonly [K in keyof NetworkActions]: (input: NetworkActions[K]) => Promise<void>;
  } {
    return {
      loadRules: () => this.rules.load(async () => this.rulesFor(await wanted())),
      closeRange: () => this.kernel.closeRange(),
      addGateway: () => this.kernel.addGateway(),
      allowForwarding: () => this.kernel.allowForwarding(),
      addRoute: ({ link }) => this.kernel.addRoute(link),
      deleteLink: ({ link }) =>
        // The plan may be old: a container may be starting under that name by now.
        this.locks.run(link.projectId, async () => {
          const addresses = this.withReserved((await wanted()).addresses);
          const now = (await this.links()).find((one) => one.index === link.index);
          if (!now || addresses.get(now.projectId) === now.address) return;
          if (now.projectId === '' && this.reserved.has(this.numberAt(now))) return;
          await this.kernel.deleteLink(now.name);
        }),
    };
  }

  private async rulesFor({ addresses, egress }: ContainersNetwork): Promise<ChangingRules> {
    const base = this.range.base;
    const links = [...this.withReserved(addresses)].map(
      ([projectId, address]): [string, Egress | undefined] => {
        const number = (ipRange(address)?.start ?? base) - base;
        return [this.linkName(number), egress.get(projectId)];
      },
    );
    const byName = links.sort(([one], [other]) => (one < other ? -1 : 1));
    return { ownNetworks: await this.kernel.ownNetworks(), policies: new Map(byName) };
  }

  private withReserved(addresses: Map<ProjectId, string>): Map<ProjectId, string> {
    for (const [number, projectId] of this.reserved) {
      addresses.set(projectId, addressAt(this.range, number));
    }
    return addresses;
  }

  private linkName(number: number): string {
    return `${this.linkPrefix}${number}`;
  }

  private numberAt(link: ProjectLink): number {
    return Number(link.name.slice(this.linkPrefix.length));
  }

  private numberOf(projectId: ProjectId): number {
    for (const [number, owner] of this.reserved) if (owner === projectId) return number;
    throw RunnerErrors.NETWORK_UNUSABLE({ reason: `no address is reserved for ${projectId}` });
  }
}

/** The first bits of a UUID are as good as random. */
const hashOf = (projectId: ProjectId): number => Number.parseInt(projectId.slice(0, 8), 16) || 0;

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

import { readFile, writeFile } from 'node:fs/promises';
import {
  anyLinkPrefix,
  CoreErrors,
  hostRouteProtocol,
  ipRange,
  ipText,
  NetworkErrors,
  rangeHolds,
  rangesOverlap,
  type Exec,
  type HostNetworkNames,
} from '@rookery/core';
import { z } from 'zod';
import { addressAt, type Cidr } from './cidr.js';
import type { NetworkState, ProjectLink } from './network.plan.js';

const aliasPrefix = 'rookery:';
const forwardingFile = '/proc/sys/net/ipv4/ip_forward';

const Links = z.array(
  z.object({ ifname: z.string(), ifindex: z.int(), ifalias: z.string().optional() }),
);
const Routes = z.array(
  z.object({
    dst: z.string(),
    type: z.string().optional(),
    dev: z.string().optional(),
    metric: z.int().optional(),
    protocol: z.string().optional(),
  }),
);
const Addresses = z.array(
  z.object({
    ifname: z.string(),
    addr_info: z
      .array(
        z.object({
          local: z.string().optional(),
          prefixlen: z.int(),
          label: z.string().optional(),
        }),
      )
      .default([]),
  }),
);

/** iproute2 prints nothing at all for an empty list. */
const parsed = <T>(schema: z.ZodType<T>, text: string): T =>
  schema.parse(JSON.parse(text.trim() === '' ? '[]' : text));

/** What a host's network is called and where it lies. */
export interface NetworkPlace {
  readonly names: HostNetworkNames;
  readonly cidr: string;
  readonly range: Cidr;
  readonly gateway: string;
}

/** The kernel's side of one host's network: what is there, and the single changes to it. */
export class KernelNetwork {
  constructor(
    private readonly exec: Exec,
    private readonly place: NetworkPlace,
  ) {}

  async state(rulesIntact: boolean): Promise<NetworkState> {
    const { cidr, gateway } = this.place;
    const [links, routes, addresses, forwarding] = await Promise.all([
      this.links(),
      this.exec.run(['ip', '-json', '-4', 'route', 'show', 'root', cidr]),
      this.exec.run(['ip', '-json', '-4', 'address', 'show', 'dev', 'lo']),
      readFile(forwardingFile, 'utf8'),
    ]);
    const local = parsed(Addresses, addresses.stdout).flatMap((link) => link.addr_info);
    return {
      links,
      routes: parsed(Routes, routes.stdout),
      gatewayPresent: local.some((one) => one.local === gateway),
      forwarding: forwarding.trim() === '1',
      rulesIntact,
    };
  }

  /** Networks that the machine itself is in, public ones too: its neighbours are not the internet. */
  async ownNetworks(): Promise<string[]> {
    const { stdout } = await this.exec.run(['ip', '-json', '-4', 'address', 'show']);
    const networks = parsed(Addresses, stdout)
      .filter(({ ifname }) => ifname !== 'lo')
      .flatMap((link) => link.addr_info)
      .flatMap(({ local, prefixlen }) => {
        const range = local === undefined ? undefined : ipRange(`${local}/${prefixlen}`);
        return range && prefixlen > 0 ? [`${ipText(range.start)}/${prefixlen}`] : [];
      });
    return [...new Set(networks)].sort();
  }

  /** Links with the host's own tag. */
  async links(): Promise<ProjectLink[]> {
    const { linkPrefix } = this.place.names;
    const { stdout } = await this.exec.run(['ip', '-json', 'link', 'show', 'type', 'veth']);
    return parsed(Links, stdout).flatMap(({ ifname, ifindex, ifalias }) => {
      if (!ifname.startsWith(linkPrefix)) return [];
      const number = Number(ifname.slice(linkPrefix.length));
      const projectId = ifalias?.startsWith(aliasPrefix) ? ifalias.slice(aliasPrefix.length) : '';
      const address = addressAt(this.place.range, number);
      return [{ projectId, name: ifname, index: ifindex, address }];
    });
  }

  /**
   * The range must be this host's alone: a route, link or address of someone else in it would take
   * requests that are meant for projects.
   * @throws NETWORK_TAKEN
   */
  async assertFree(): Promise<void> {
    const { cidr, names } = this.place;
    const routes = await this.exec.run(['ip', '-json', '-4', 'route', 'show', 'table', 'all']);
    for (const { dst, dev, protocol, type } of parsed(Routes, routes.stdout)) {
      if (!rangesOverlap(cidr, dst) || type === 'broadcast' || dev === 'lo') continue;
      if (type === 'unreachable' && protocol === hostRouteProtocol && dst === cidr) continue;
      if (dev?.startsWith(names.linkPrefix) === true) continue;
      // What is wider than the range is only hidden in part, as the operator has chosen.
      if (!rangeHolds(cidr, dst)) continue;
      throw this.takenBy(
        dev?.startsWith(anyLinkPrefix) === true
          ? `another Rookery host’s link ${dev} (route ${dst})`
          : `the route ${dst}${dev === undefined ? '' : ` of ${dev}`}`,
      );
    }
    const addresses = await this.exec.run(['ip', '-json', '-4', 'address', 'show']);
    for (const { ifname, addr_info: infos } of parsed(Addresses, addresses.stdout)) {
      for (const { local, label } of infos) {
        if (local === undefined || !rangesOverlap(cidr, local)) continue;
        // Releases before labels put the gateway on lo without one.
        const isOwn = ifname === 'lo' && (label === 'lo' || label === names.gatewayLabel);
        if (!isOwn) throw this.takenBy(`the address ${local} of ${label ?? ifname}`);
      }
    }
  }

  async addGateway(): Promise<void> {
    const { gateway, names } = this.place;
    const [dev, label] = ['lo', names.gatewayLabel];
    await this.exec.run(['ip', 'address', 'replace', `${gateway}/32`, 'dev', dev, 'label', label]);
  }

  async deleteGateway(): Promise<void> {
    await this.exec.run(['ip', 'address', 'delete', `${this.place.gateway}/32`, 'dev', 'lo'], {
      okExits: [0, 2],
    });
  }

  /** Without a metric: no other route to the same range can come before it. */
  async closeRange(): Promise<void> {
    await this.exec.run(['ip', 'route', 'replace', ...this.rangeRoute()]);
  }

  async openRange(): Promise<void> {
    await this.exec.run(['ip', 'route', 'delete', ...this.rangeRoute()], { okExits: [0, 2] });
  }

  async allowForwarding(): Promise<void> {
    await writeFile(forwardingFile, '1');
  }

  /** Makes the host's end of a link, whose other end is `eth0` of process `pid`. */
  async addLink(name: string, address: string, projectId: string, pid: number): Promise<number> {
    await this.exec.run(['ip', '-batch', '-'], {
      input: [
        `link add ${name} type veth peer name eth0 netns ${pid}`,
        `link set ${name} alias ${aliasPrefix}${projectId} up`,
        `route replace ${address}/32 dev ${name}`,
        '',
      ].join('\n'),
    });
    const link = (await this.links()).find((one) => one.name === name);
    if (!link) throw CoreErrors.INTERNAL({ reason: `the link ${name} went at once` });
    return link.index;
  }

  /** The link may go with its container meanwhile. */
  async addRoute({ address, name }: ProjectLink): Promise<void> {
    await this.exec.run(['ip', 'route', 'replace', `${address}/32`, 'dev', name], {
      okExits: [0, 1, 2],
    });
  }

  async deleteLink(name: string): Promise<void> {
    // It may have gone with its namespace in the meantime.
    await this.exec.run(['ip', 'link', 'delete', name], { okExits: [0, 1] });
  }

  private rangeRoute(): string[] {
    return ['unreachable', this.place.cidr, 'proto', hostRouteProtocol];
  }

  private takenBy(holder: string): Error {
    return NetworkErrors.NETWORK_TAKEN({ cidr: this.place.cidr, holder });
  }
}

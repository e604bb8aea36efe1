import type { IncomingMessage } from 'node:http';
import { BlockList, isIP, isIPv6 } from 'node:net';
import { z } from 'zod';

/** Who sent a request, and what the address bar says, as far as anybody trusted has told. */
export interface ClientOrigin {
  /** IP address; of the client, not of a TLS terminator of ours. */
  readonly address: string;
  readonly scheme: 'http' | 'https';
  /** Host header of the client, lower case, with its port. */
  readonly host: string | undefined;
  /** `address`, then the trusted proxies that it came through, but for the last: that is the peer. */
  readonly chain: readonly string[];
}

/** A chain is read this far; what lies beyond was made up by somebody. */
const hopsMax = 32;
const hostPattern = /^[a-z0-9.-]{1,253}(?::\d{1,5})?$|^\[[0-9a-f:.]{2,45}\](?::\d{1,5})?$/;

/**
 * The addresses whose `X-Forwarded-For`, `-Proto` and `-Host` are believed: TLS terminators and load
 * balancers of the operator's. Whoever else sends such headers is not asked.
 */
export class TrustedProxies {
  private readonly list = new BlockList();
  private readonly any: boolean;

  /**
   * @param addresses IPv4 or IPv6 addresses, or networks such as `10.0.0.0/8`
   * @throws TypeError naming what is neither
   */
  constructor(addresses: readonly string[] = []) {
    this.any = addresses.length > 0;
    for (const text of addresses) this.add(text);
  }

  trusts(address: string): boolean {
    const family = isIP(address);
    return this.any && family !== 0 && this.list.check(address, family === 6 ? 'ipv6' : 'ipv4');
  }

  /** The one place that says where a request comes from; limits per client use it, too. */
  clientOf(req: Pick<IncomingMessage, 'headers' | 'socket'>): ClientOrigin {
    const peer = peerAddress(req);
    const scheme = 'encrypted' in req.socket ? 'https' : 'http';
    const host = req.headers.host?.toLowerCase();
    if (!this.trusts(peer)) return { address: peer, scheme, host, chain: [] };
    const chain = this.chainOf(req.headers['x-forwarded-for']);
    const proto = firstOf(req.headers['x-forwarded-proto'])?.toLowerCase();
    const told = firstOf(req.headers['x-forwarded-host'])?.toLowerCase();
    return {
      address: chain[0] ?? peer,
      scheme: proto === 'https' || proto === 'http' ? proto : scheme,
      host: told !== undefined && hostPattern.test(told) ? told : host,
      chain,
    };
  }

  /** From the right: each trusted hop has added whom it saw; the first other one is the client. */
  private chainOf(header: string | string[] | undefined): string[] {
    const hops = String(header ?? '').split(',');
    const chain: string[] = [];
    for (const hop of hops.slice(-hopsMax).reverse()) {
      const address = plainAddress(hop.trim());
      if (isIP(address) === 0) break;
      chain.unshift(address);
      if (!this.trusts(address)) break;
    }
    return chain;
  }

  private add(text: string): void {
    const [address = '', bits, ...rest] = text.split('/');
    const family = isIP(address);
    const type = family === 6 ? 'ipv6' : 'ipv4';
    const prefix = bits === undefined ? undefined : /^\d{1,3}$/.test(bits) ? Number(bits) : -1;
    const prefixMax = family === 6 ? 128 : 32;
    const wrong = prefix !== undefined && (prefix < 0 || prefix > prefixMax);
    if (family === 0 || wrong || rest.length > 0) {
      throw new TypeError(`${text} is no address and no network`);
    }
    if (prefix === undefined) this.list.addAddress(address, type);
    else this.list.addSubnet(address, prefix, type);
  }
}

/** Address of whoever is connected to us; an IPv4 one as such. */
export function peerAddress({ socket }: Pick<IncomingMessage, 'socket'>): string {
  return plainAddress(socket.remoteAddress ?? 'unknown');
}

/** Some terminators write `[2001:db8::1]:443` or `192.0.2.1:443`. */
function plainAddress(text: string): string {
  const [, bracketed] = /^\[([^\]]+)\](?::\d+)?$/.exec(text) ?? [];
  const [, bare] = /^(\d+\.\d+\.\d+\.\d+):\d+$/.exec(text) ?? [];
  const address = bracketed ?? bare ?? text;
  return address.startsWith('::ffff:') && isIPv6(address) && address.includes('.')
    ? address.slice(7)
    : address;
}

function firstOf(header: string | string[] | undefined): string | undefined {
  const text = String(header ?? '')
    .split(',', 1)[0]
    ?.trim();
  return text === '' ? undefined : text;
}

/** The setting: addresses and networks, separated by commas. */
export const TrustedProxyList = z
  .string()
  .transform((text) => text.split(',').map((part) => part.trim()))
  .transform((parts) => parts.filter((part) => part !== ''))
  .superRefine((addresses, context) => {
    try {
      new TrustedProxies(addresses);
    } catch (error) {
      context.addIssue({ code: 'custom', message: (error as Error).message });
    }
  });

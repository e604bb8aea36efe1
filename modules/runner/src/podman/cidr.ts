import { RunnerErrors } from '../runner.errors.js';

/** An IPv4 range. */
export interface Cidr {
  readonly base: number;
  readonly size: number;
}

export function parseCidr(text: string): Cidr {
  const match = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})\/(\d{1,2})$/.exec(text);
  const [a, b, c, d, bits] = (match ?? []).slice(1).map(Number);
  const octets = [a, b, c, d];
  if (bits === undefined || bits > 30 || octets.some((octet = 256) => octet > 255)) {
    throw RunnerErrors.NETWORK_UNUSABLE({
      reason: `${text} is no IPv4 range such as 10.213.0.0/20`,
    });
  }
  const size = 2 ** (32 - bits);
  const address = octets.reduce<number>((sum, octet = 0) => sum * 256 + octet, 0);
  return { base: address - (address % size), size };
}

export function addressAt(cidr: Cidr, number: number): string {
  const address = cidr.base + number;
  return [24, 16, 8, 0].map((shift) => Math.floor(address / 2 ** shift) % 256).join('.');
}

/** The host's own address in a range of projects: where containers find its broker. */
export const gatewayOf = (cidr: string): string => addressAt(parseCidr(cidr), 1);

/** An IPv4 range as numbers. */
export interface IpRange {
  readonly start: number;
  readonly end: number;
}

/** `10.0.0.5/8` or a bare address → the whole range; undefined for what is no IPv4 range. */
export function ipRange(cidr: string): IpRange | undefined {
  const [address = '', bits = '32', more] = cidr.split('/');
  const octets = address.split('.');
  const prefix = Number(bits);
  const valid =
    more === undefined &&
    octets.length === 4 &&
    octets.every((octet) => /^\d{1,3}$/.test(octet) && Number(octet) <= 255) &&
    /^\d{1,2}$/.test(bits) &&
    prefix <= 32;
  if (!valid) return undefined;
  const size = 2 ** (32 - prefix);
  const number = octets.reduce((sum, octet) => sum * 256 + Number(octet), 0);
  const start = number - (number % size);
  return { start, end: start + size - 1 };
}

export function ipText(value: number): string {
  return [24, 16, 8, 0].map((shift) => Math.floor(value / 2 ** shift) % 256).join('.');
}

/** Whether two IPv4 ranges share an address; what is no range shares none. */
export function rangesOverlap(one: string, other: string): boolean {
  const a = ipRange(one);
  const b = ipRange(other);
  return a !== undefined && b !== undefined && a.start <= b.end && b.start <= a.end;
}

/** Whether `inner` lies wholly in `outer`. */
export function rangeHolds(outer: string, inner: string): boolean {
  const a = ipRange(outer);
  const b = ipRange(inner);
  return a !== undefined && b !== undefined && a.start <= b.start && b.end <= a.end;
}

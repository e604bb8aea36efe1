import { z } from 'zod';

/** What projects may reach outside their host, from the strictest. */
const egressModes = ['none', 'allow-list', 'internet', 'open'] as const;

/**
 * `none`: nothing at all, no names either. `allow-list`: what is listed, and names. `internet`: public
 * addresses, and names. `open`: private networks too. Clouds' metadata, other projects and the
 * host itself are closed in each.
 */
export const EgressMode = z.enum(egressModes);
export type EgressMode = z.infer<typeof EgressMode>;

const targetPattern = /^([\d.]+(?:\/\d{1,2})?)(?::(\d{1,5})(?:-(\d{1,5}))?)?(?:\/(tcp|udp))?$/;

/** One thing that may be reached. */
export interface EgressTargetDependencies {
  /** A range with its prefix length. */
  readonly cidr: string;
  readonly firstPort?: number;
  readonly lastPort?: number;
  readonly protocol?: 'tcp' | 'udp';
}

/** `10.0.0.5:5432/tcp`, `192.0.2.0/24:8000-8100`, `192.0.2.7`; undefined for what is none. */
export function parseEgressTarget(text: string): EgressTargetDependencies | undefined {
  const [, range = '', first, last, protocol] = targetPattern.exec(text) ?? [];
  const cidr = range.includes('/') ? range : `${range}/32`;
  if (!z.cidrv4().safeParse(cidr).success) return undefined;
  // A protocol says something of ports only.
  if (first === undefined) return protocol === undefined ? { cidr } : undefined;
  const [firstPort, lastPort] = [Number(first), Number(last ?? first)];
  if (firstPort < 1 || lastPort < firstPort || lastPort > 65_535) return undefined;
  const ports = { firstPort, lastPort };
  return protocol === 'tcp' || protocol === 'udp'
    ? { cidr, ...ports, protocol }
    : { cidr, ...ports };
}

export const EgressTarget = z
  .string()
  .max(60)
  .refine((text) => parseEgressTarget(text) !== undefined, {
    message: 'must be as 192.0.2.0/24, 192.0.2.7:443, 10.0.0.5:8000-8100/tcp',
  });

export const egressTargetsMax = 64;

/** What one project may reach; its host's own policy holds beside it. */
export const Egress = z
  .object({
    mode: EgressMode,
    /** With `allow-list` only. */
    allow: z.array(EgressTarget).max(egressTargetsMax).default([]),
  })
  .refine(({ mode, allow }) => mode === 'allow-list' || allow.length === 0, {
    message: 'a list belongs to the mode allow-list alone',
  });
export type Egress = z.infer<typeof Egress>;

/** Whether a project may have that policy on a host whose own is `most`. */
export function egressWithin(mode: EgressMode, most: EgressMode): boolean {
  return egressModes.indexOf(mode) <= egressModes.indexOf(most);
}

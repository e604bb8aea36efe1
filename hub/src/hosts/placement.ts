import { counted, formatBytes } from '@rookery/core';

/** One host's figures, what is already promised taken off. */
export interface HostFigures {
  readonly hostId: string;
  readonly host: string;
  readonly region: string;
  readonly online: boolean;
  readonly schedulable: boolean;
  readonly projects: number;
  readonly images: readonly string[];
  readonly diskBytes: number;
  readonly diskFreeBytes: number;
  readonly memoryBytes: number;
  readonly memoryFreeBytes: number;
  /** Sums of the quotas of the projects there. */
  readonly promised: Promised;
}

/** What quotas allow at most, whatever is used. */
export interface Promised {
  readonly diskBytes: number;
  readonly memoryBytes: number;
}

/** How many times its disk and memory a host may promise. */
export interface Overcommit {
  readonly disk: number;
  readonly memory: number;
}

export interface Need {
  readonly diskBytes: number;
  readonly memoryBytes: number;
  /** Digest or reference that the host may have cached. */
  readonly image: string;
  readonly region: string | undefined;
  /** What the project's quota promises it. */
  readonly quota: Promised;
}

export interface Candidate {
  readonly hostId: string;
  readonly host: string;
  readonly eligible: boolean;
  readonly score: number;
  readonly reasons: string[];
  readonly online: boolean;
  readonly schedulable: boolean;
  readonly free: { readonly diskBytes: number; readonly memoryBytes: number };
}

/** Candidates that a decision records one by one; of the rest it counts the reasons. */
export const recordedCandidatesMax = 10;

/** What counts how much; free disk and memory as a part of the host's whole. */
const weights = { disk: 40, memory: 30, image: 10, region: 15 } as const;
/** Fewer projects first where the rest is alike: one point for each project. */
const projectPenalty = 1;

/** Judges every host; the best first, then those that cannot take the project. */
export function rankHosts(
  hosts: readonly HostFigures[],
  need: Need,
  overcommit: Overcommit,
): Candidate[] {
  return hosts
    .map((host) => judge(host, need, overcommit))
    .sort(
      (a, b) =>
        Number(b.eligible) - Number(a.eligible) ||
        b.score - a.score ||
        (a.hostId < b.hostId ? -1 : 1),
    );
}

/** How many of these each reason kept away, without the figures of each. */
export function countReasons(candidates: readonly Candidate[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const { eligible, reasons } of candidates) {
    const kinds = eligible ? ['a lower score'] : reasons.map(kindOf);
    for (const kind of kinds) counts[kind] = (counts[kind] ?? 0) + 1;
  }
  return counts;
}

/** `needs 2.0 GiB of disk, has 1.0 GiB unpromised` → `too little disk`. */
const kindOf = (objection: string): string =>
  objection
    .replace(/^needs .* of (disk|memory), .*$/, 'too little $1')
    .replace(/^.* more (disk|memory) .*$/, 'too much $1 promised')
    .replace(/^a quota of .*$/, 'too small for the quota');

function judge(host: HostFigures, need: Need, overcommit: Overcommit): Candidate {
  const against = [...objections(host, need), ...brokenPromises(host, need.quota, overcommit)];
  const part = (free: number, whole: number): number => (whole > 0 ? Math.max(0, free) / whole : 0);
  const cached = host.images.includes(need.image);
  const near = need.region !== undefined && host.region === need.region;
  const score =
    weights.disk * part(host.diskFreeBytes - need.diskBytes, host.diskBytes) +
    weights.memory * part(host.memoryFreeBytes - need.memoryBytes, host.memoryBytes) +
    (cached ? weights.image : 0) +
    (near ? weights.region : 0) -
    projectPenalty * host.projects;
  return {
    hostId: host.hostId,
    host: host.host,
    eligible: against.length === 0,
    score: Math.round(score * 10) / 10,
    reasons: against.length > 0 ? against : favours(host, { cached, near }),
    online: host.online,
    schedulable: host.schedulable,
    free: { diskBytes: host.diskFreeBytes, memoryBytes: host.memoryFreeBytes },
  };
}

function objections(host: HostFigures, need: Need): string[] {
  const against: string[] = [];
  if (!host.online) against.push('offline');
  if (!host.schedulable) against.push('cordoned');
  if (host.diskFreeBytes < need.diskBytes) {
    const free = formatBytes(Math.max(0, host.diskFreeBytes));
    against.push(`needs ${formatBytes(need.diskBytes)} of disk, has ${free} unpromised`);
  }
  if (host.memoryFreeBytes < need.memoryBytes) {
    const free = formatBytes(Math.max(0, host.memoryFreeBytes));
    against.push(`needs ${formatBytes(need.memoryBytes)} of memory, has ${free} unpromised`);
  }
  return against;
}

/** More of its volume than this no single quota may be: it could not be kept by far. */
const quotaPartMax = 2;

/** Why a host must not promise a project that much, beside what it has promised to others. */
export function brokenPromises(
  host: Pick<HostFigures, 'diskBytes' | 'memoryBytes' | 'promised'>,
  quota: Promised,
  overcommit: Overcommit,
): string[] {
  const against: string[] = [];
  if (quota.diskBytes > host.diskBytes * quotaPartMax) {
    const [wanted, size] = [quota.diskBytes, host.diskBytes].map(formatBytes);
    against.push(`a quota of ${wanted} on a volume of ${size}`);
  }
  for (const what of ['disk', 'memory'] as const) {
    const key = `${what}Bytes` as const;
    const left = host[key] * overcommit[what] - host.promised[key];
    if (quota[key] <= left) continue;
    const may = formatBytes(Math.max(0, left));
    against.push(`may promise ${may} more ${what} (${overcommit[what]} times what it has)`);
  }
  return against;
}

function favours(host: HostFigures, has: { cached: boolean; near: boolean }): string[] {
  return [
    `${formatBytes(host.diskFreeBytes)} of disk free`,
    `${formatBytes(host.memoryFreeBytes)} of memory free`,
    counted(host.projects, 'project'),
    ...(has.cached ? ['image cached'] : []),
    ...(has.near ? [`region ${host.region}`] : []),
  ];
}

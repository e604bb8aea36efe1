import type { ProjectRole } from '@rookery/core/contract';
import { ProxyErrors } from '../proxy.errors.js';

/** Who something counts as. */
export interface Standing {
  /** `newcomer`: it is being looked up who that is. `stranger`: nobody with a role here. */
  readonly kind: 'owner' | 'member' | 'stranger' | 'newcomer';
  /** Subject of an owner or member. */
  readonly subject?: string;
  /** Client of a stranger or newcomer. */
  readonly address?: string;
}

interface Counted {
  readonly projectId: string;
  readonly port: number;
}

/**
 * What one may take of the limits, so that there is room for the others: no port, account or address
 * takes all of a project; what strangers may not have is kept for those who are known, and a part of
 * that for the project's owners. Rounded up, so that small limits still let everybody in.
 */
const ofProject = {
  port: 3 / 4,
  account: 7 / 8,
  /** The rest is the owners'. */
  notOwners: 7 / 8,
  strangers: 3 / 8,
  strangersOfPort: 1 / 4,
  strangersOfAddress: 3 / 16,
} as const;
const ofProcess = {
  account: 1 / 4,
  strangers: 3 / 8,
  strangersOfAddress: 1 / 16,
} as const;

interface ShareLimits {
  readonly projectMax: number;
  readonly processMax: number;
  /** `requests` or `WebSockets`. */
  readonly what: string;
}

/** A counter that it is counted in, how far that may go, and what to call it. */
export type Claim = readonly [key: string, max: number, what: string];

/** Counters kept while they are 0: theirs is the next request. */
const knownMax = 20_000;

/** Counts what is under way against everybody's share of one kind of thing. */
export class Shares {
  private readonly counts = new Map<string, number>();

  constructor(private readonly limits: ShareLimits) {}

  /**
   * Counts it in.
   * @returns what to give back, later, to `release`
   * @throws PROXY_BUSY
   */
  take(counted: Counted, standing: Standing): readonly Claim[] {
    const claims = this.claimsOf(counted, standing);
    for (const [key, max, what] of claims) {
      if ((this.counts.get(key) ?? 0) >= max) {
        throw ProxyErrors.PROXY_BUSY({ limit: max, what: `${this.limits.what} ${what}` });
      }
    }
    for (const [key] of claims) this.counts.set(key, (this.counts.get(key) ?? 0) + 1);
    if (this.counts.size > knownMax) this.forgetUnused();
    return claims;
  }

  release(claims: readonly Claim[]): void {
    for (const [key] of claims) this.counts.set(key, (this.counts.get(key) ?? 1) - 1);
  }

  private claimsOf({ projectId, port }: Counted, standing: Standing): Claim[] {
    const { projectMax, processMax } = this.limits;
    const { kind, subject, address } = standing;
    const project = (share: number): number => Math.ceil(projectMax * share);
    const process = (share: number): number => Math.ceil(processMax * share);
    const claims: Claim[] = [];
    if (kind === 'stranger' || kind === 'newcomer') {
      claims.push(['s', process(ofProcess.strangers), 'of people who are not signed in']);
      const max = process(ofProcess.strangersOfAddress);
      claims.push([`a ${address}`, max, 'from your address']);
    }
    // Whether the project has anything to do with a newcomer is not known.
    if (kind === 'newcomer') return claims;
    if (kind === 'stranger') {
      claims.push(
        [`ps ${projectId}`, project(ofProject.strangers), 'to the public ports of this project'],
        [`pts ${projectId} ${port}`, project(ofProject.strangersOfPort), 'to this public port'],
      );
      const max = project(ofProject.strangersOfAddress);
      claims.push([`pa ${projectId} ${address}`, max, 'from your address to this project']);
    } else {
      claims.push(
        [`u ${subject}`, process(ofProcess.account), 'of your account'],
        [
          `pu ${projectId} ${subject}`,
          project(ofProject.account),
          'of your account to this project',
        ],
      );
    }
    if (kind !== 'owner') {
      claims.push(
        [`pt ${projectId} ${port}`, project(ofProject.port), 'to this port of the project'],
        [`pn ${projectId}`, project(ofProject.notOwners), 'to this project'],
      );
    }
    claims.push([`p ${projectId}`, projectMax, 'to this project']);
    return claims;
  }

  private forgetUnused(): void {
    for (const [key, count] of this.counts) if (count === 0) this.counts.delete(key);
  }
}

/** A role on the project, as standing. */
export function standingOf(
  role: ProjectRole | 'project' | 'anonymous' | undefined,
  subject: string,
  address: string,
): Standing {
  if (role === undefined || role === 'anonymous') return { kind: 'stranger', address };
  return { kind: role === 'owner' ? 'owner' : 'member', subject };
}

import { readdir, readFile, readlink, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { writeFileAtomic } from './atomic-file.js';
import type { CodedError } from './errors.js';
import { rangesOverlap } from './ip-range.js';
import { isThere } from './is-there.js';
import { withMachineLock } from './machine-lock.js';
import { NetworkErrors } from './network.errors.js';

/** Where the hosts of a machine note which ranges are theirs; all must look in the same place. */
export const networkClaimsDir = '/var/lib/rookery-networks';

/** Who holds a range. A claim lasts while its folder is there, whether or not anything runs. */
export interface NetworkHolder {
  readonly hostKey: string;
  /** The host's own data, or the folder of the cluster that the host belongs to. */
  readonly folder: string;
}

const NetworkClaim = z.object({
  version: z.literal(1),
  cidr: z.cidrv4(),
  hostKey: z.string(),
  folder: z.string(),
  /** The network namespace in which the range is used; another one has ranges of its own. */
  namespace: z.string(),
});
export type NetworkClaim = z.infer<typeof NetworkClaim>;

const claimsMax = 10_000;

/**
 * The ranges that the hosts of one machine have taken for their projects, a file each. Two hosts
 * that use the same range would answer for each other's projects; this is where they learn of each
 * other, also of one that is stopped.
 */
export class NetworkClaims {
  constructor(private readonly folder: string = networkClaimsDir) {}

  /** Runs a task that reads and takes claims while no one else on the machine does. */
  exclusively<T>(task: (locked: LockedClaims) => Promise<T>): Promise<T> {
    return withMachineLock(this.folder, 'the networks’', async () =>
      task(new LockedClaims(this.folder, await namespaceOf())),
    );
  }

  /** @throws NETWORK_TAKEN naming the holder */
  claim(cidr: string, holder: NetworkHolder): Promise<void> {
    return this.exclusively((locked) => locked.claim(cidr, holder));
  }

  /** Gives back all ranges of a holder. Repeating does no harm. */
  release(holder: NetworkHolder): Promise<void> {
    return this.exclusively((locked) => locked.release(holder));
  }
}

/** The claims while their lock is held. */
export class LockedClaims {
  constructor(
    private readonly folder: string,
    private readonly namespace: string,
  ) {}

  /** Claims of this network namespace whose holder is still there; files of others go. */
  async list(): Promise<NetworkClaim[]> {
    const live: NetworkClaim[] = [];
    for (const name of (await readdir(this.folder)).slice(0, claimsMax)) {
      if (!name.endsWith('.json')) continue;
      const path = join(this.folder, name);
      const claim = await readClaim(path);
      if (claim !== undefined && (await isThere(claim.folder))) {
        if (claim.namespace === this.namespace) live.push(claim);
      } else {
        await rm(path, { force: true });
      }
    }
    return live;
  }

  /** @throws NETWORK_TAKEN when somebody else holds a part of the range */
  async assertFree(cidr: string, holder: NetworkHolder): Promise<NetworkClaim[]> {
    const claims = await this.list();
    const taken = claims.find(
      (claim) => !isSameHolder(claim, holder) && rangesOverlap(claim.cidr, cidr),
    );
    if (taken) throw takenBy(cidr, taken);
    return claims;
  }

  /** @throws NETWORK_TAKEN */
  async claim(cidr: string, holder: NetworkHolder): Promise<void> {
    const claims = await this.assertFree(cidr, holder);
    // Before the write: a holder has one range, and its name for the file may have changed.
    for (const claim of claims) {
      if (isSameHolder(claim, holder)) await rm(this.pathOf(claim.cidr), { force: true });
    }
    await this.write({ version: 1, cidr, ...holder, namespace: this.namespace });
  }

  async release(holder: NetworkHolder): Promise<void> {
    for (const claim of await this.list()) {
      if (isSameHolder(claim, holder)) await rm(this.pathOf(claim.cidr), { force: true });
    }
  }

  private async write(claim: NetworkClaim): Promise<void> {
    await writeFileAtomic(this.pathOf(claim.cidr), `${JSON.stringify(claim)}\n`, { mode: 0o644 });
  }

  private pathOf(cidr: string): string {
    return join(this.folder, `${this.namespace}_${cidr.replace('/', '_')}.json`);
  }
}

/** A cluster claims for its hosts before they exist; the host's own claim is inside its folder. */
function isSameHolder(claim: NetworkClaim, holder: NetworkHolder): boolean {
  if (claim.hostKey !== holder.hostKey) return false;
  const [one, other] = [`${claim.folder}/`, `${holder.folder}/`];
  return one.startsWith(other) || other.startsWith(one);
}

function takenBy(cidr: string, claim: NetworkClaim): CodedError {
  const holder = `host ${claim.hostKey} (${claim.folder}), which has ${claim.cidr}`;
  return NetworkErrors.NETWORK_TAKEN({ cidr, holder });
}

/** A claim that cannot be read is nobody's: it was never whole. */
async function readClaim(path: string): Promise<NetworkClaim | undefined> {
  try {
    return NetworkClaim.parse(JSON.parse(await readFile(path, 'utf8')));
  } catch {
    return undefined;
  }
}

/** `net:[4026531840]` → its number. */
async function namespaceOf(): Promise<string> {
  return (await readlink('/proc/self/ns/net')).replace(/\D/g, '');
}

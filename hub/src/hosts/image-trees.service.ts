import { Injectable } from '@nestjs/common';
import type { ImageTreeReport } from '@rookery/fleet/contract';
import { ImageTrees } from '@rookery/move';
import { DataSource, type EntityManager } from 'typeorm';
import { AuditService } from '../audit/audit.service.js';

/** What one host may have said; it forgets what it has not repeated for longest. */
const wordsMax = 1000;

/** Hosts take turns at saying: of two that come at once, one is the first for everybody. */
const sayingLock = 728_422;

/** The first word about an image, of a host that is still one of the fleet. */
export const firstWord = (imageDigest: string): string =>
  `(SELECT f.tree_digest FROM image_trees f
    JOIN project_hosts o ON o.id = f.host_id AND o.status = 'active'
    WHERE f.image_digest = ${imageDigest} ORDER BY f.seq LIMIT 1)`;

/**
 * What images hold (docs/adr/0016), in Postgres. Every host's word is kept, so that a host which
 * says something else is shown, and the next word counts when the first host is removed.
 */
@Injectable()
export class PostgresImageTrees extends ImageTrees {
  constructor(
    private readonly dataSource: DataSource,
    private readonly audit: AuditService,
  ) {
    super();
  }

  async known(imageDigest: string): Promise<string | undefined> {
    return knownTo(this.dataSource.manager, imageDigest);
  }

  async learn(hostId: string, imageDigest: string, treeDigest: string): Promise<string> {
    await this.say(hostId, [{ imageDigest, treeDigest }]);
    return (await this.known(imageDigest)) ?? treeDigest;
  }

  /** @returns images of which another host's word counts, and says something else */
  async say(hostId: string, reports: readonly ImageTreeReport[]): Promise<string[]> {
    if (reports.length === 0) return [];
    return this.dataSource.transaction(async (manager) => {
      await manager.query('SELECT pg_advisory_xact_lock($1)', [sayingLock]);
      const differing: string[] = [];
      for (const report of reports) {
        if (await this.note(manager, hostId, report)) differing.push(report.imageDigest);
      }
      await manager.query(
        `DELETE FROM image_trees WHERE seq IN (SELECT seq FROM image_trees
           WHERE host_id = $1 ORDER BY said_at DESC, seq DESC OFFSET $2)`,
        [hostId, wordsMax],
      );
      return differing;
    });
  }

  /** @returns whether it is not what counts */
  private async note(
    manager: EntityManager,
    hostId: string,
    { imageDigest, treeDigest }: ImageTreeReport,
  ): Promise<boolean> {
    const [said] = await manager.query<{ is_new: boolean }[]>(
      // A row that was there has been written by another transaction than its first.
      `INSERT INTO image_trees (image_digest, host_id, tree_digest)
       SELECT $1, id, $3 FROM project_hosts WHERE id = $2 AND status = 'active'
       ON CONFLICT (image_digest, host_id, tree_digest) DO UPDATE SET said_at = clock_timestamp()
       RETURNING xmax = 0 AS is_new`,
      [imageDigest, hostId, treeDigest],
    );
    const known = await knownTo(manager, imageDigest);
    const differs = known !== undefined && known !== treeDigest;
    if (differs && said?.is_new === true) {
      await this.audit.record(manager, {
        actor: `host:${hostId}`,
        action: 'host.image-differs',
        subject: `host:${hostId}`,
        details: { imageDigest, treeDigest, known },
      });
    }
    return differs;
  }
}

async function knownTo(manager: EntityManager, imageDigest: string): Promise<string | undefined> {
  const [row] = await manager.query<{ tree: string | null }[]>(
    `SELECT ${firstWord('$1')} AS tree`,
    [imageDigest],
  );
  return row?.tree ?? undefined;
}

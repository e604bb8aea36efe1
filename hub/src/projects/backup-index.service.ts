import { Inject, Injectable } from '@nestjs/common';
import type { BackupRecord } from '@rookery/fleet/contract';
import { DataSource, In, type EntityManager } from 'typeorm';
import { HUB_CONFIG, type HubConfig } from '../config/config.js';
import { Backup } from '../database/entities/record.entity.js';
import { HostConnections } from '../hosts/host-connections.js';

/** Of a backup `b` made on host `o`, and host `h`. */
export const ofSameRepository = `(b.host_id = h.id OR
  o.capabilities->'backupRepository'->>'id' = h.capabilities->'backupRepository'->>'id')`;

/** Somebody waits for a list: a slow repository is shown as it was last. */
const askTimeoutMs = 15_000;

/** Keeps the hub's index of backups to what the repositories hold: they are the truth. */
@Injectable()
export class BackupIndex {
  constructor(
    private readonly dataSource: DataSource,
    private readonly hosts: HostConnections,
    @Inject(HUB_CONFIG) private readonly config: HubConfig,
  ) {}

  /**
   * Looks into the repository of a project and writes down what it holds: what was forgotten there
   * goes, what another hub or program made comes. Without a host that answers, all stays.
   * @returns whether a repository was asked
   */
  async refresh(projectId: string, closing?: AbortSignal): Promise<boolean> {
    const hostId = await this.hostFor(projectId);
    if (hostId === undefined) return false;
    const before = await this.recorded(projectId, hostId);
    const timeout = AbortSignal.timeout(askTimeoutMs);
    const signal = closing ? AbortSignal.any([timeout, closing]) : timeout;
    const host = this.hosts.backups(hostId, { patienceMs: 0 });
    const found = await host.list({ projectId }, { signal }).catch(() => undefined);
    if (!found) return false;
    await this.write(projectId, hostId, { before, found: found.backups });
    return true;
  }

  /**
   * The same for all that the repository of one host holds, projects included that the hub does not
   * know. Nothing is taken out before the whole list is there.
   * @throws HOST_OFFLINE, REPOSITORY_MISSING and what else keeps the host from looking
   */
  async refreshHost(
    hostId: string,
    closing?: AbortSignal,
  ): Promise<{ backups: number; projects: number }> {
    const before = await this.recordedOnHost(hostId);
    const host = this.hosts.backups(hostId, { patienceMs: 0 });
    const found = new Set<string>();
    const projects = new Set<string>();
    let after: { projectId: string; backupId: string } | undefined;
    do {
      const page = await host.listAll({ ...(after && { after }) }, closing && { signal: closing });
      await this.add(this.dataSource.manager, hostId, page.backups);
      for (const { projectId, backupId } of page.backups) {
        found.add(`${projectId}/${backupId}`);
        projects.add(projectId);
      }
      after = page.more ? page.backups.at(-1) : undefined;
    } while (after);
    const gone = before.filter((row) => !found.has(`${row.project_id}/${row.id}`));
    await this.dataSource.query(
      `DELETE FROM backups b USING unnest($1::uuid[], $2::text[]) AS gone (project_id, id)
       WHERE b.project_id = gone.project_id AND b.id = gone.id`,
      [gone.map((row) => row.project_id), gone.map((row) => row.id)],
    );
    return { backups: found.size, projects: projects.size };
  }

  /** Writes down what a host found in its repository; what is known stays as it is. */
  async add(manager: EntityManager, hostId: string, found: readonly BackupRecord[]): Promise<void> {
    if (found.length === 0) return;
    const rows = found.map((record) => {
      const { backupId: id, projectId, driver, repository, bytes, files, bytesAdded } = record;
      return {
        id,
        projectId,
        hostId,
        driver,
        repository,
        bytes,
        files,
        bytesAdded,
        durationMs: record.durationMs,
        tags: record.tags,
        createdAt: new Date(record.createdAt),
      };
    });
    await manager.createQueryBuilder().insert().into(Backup).values(rows).orIgnore().execute();
  }

  private recordedOnHost(hostId: string): Promise<{ id: string; project_id: string }[]> {
    return this.dataSource.query<{ id: string; project_id: string }[]>(
      `SELECT b.id, b.project_id FROM backups b LEFT JOIN project_hosts o ON o.id = b.host_id,
         project_hosts h
       WHERE h.id = $1 AND ${ofSameRepository}`,
      [hostId],
    );
  }

  /** What is known of this repository: made on this host, or on one that says it has the same. */
  private async recorded(projectId: string, hostId: string): Promise<string[]> {
    const rows = await this.dataSource.query<{ id: string }[]>(
      `SELECT b.id FROM backups b LEFT JOIN project_hosts o ON o.id = b.host_id, project_hosts h
       WHERE b.project_id = $1 AND h.id = $2 AND ${ofSameRepository}`,
      [projectId, hostId],
    );
    return rows.map(({ id }) => id);
  }

  /** What was recorded only after the host was asked need not be in its answer: it stays. */
  private async write(
    projectId: string,
    hostId: string,
    { before, found }: { before: readonly string[]; found: readonly BackupRecord[] },
  ): Promise<void> {
    await this.dataSource.transaction(async (manager) => {
      const ids = new Set(found.map(({ backupId }) => backupId));
      const gone = before.filter((id) => !ids.has(id));
      if (gone.length > 0) await manager.delete(Backup, { projectId, id: In(gone) });
      await this.add(manager, hostId, found);
    });
  }

  /** The project's own host, else the one that made its newest backup, else any with a repository. */
  private async hostFor(projectId: string): Promise<string | undefined> {
    const [row] = await this.dataSource.query<{ id: string }[]>(
      `SELECT h.id FROM project_hosts h
       WHERE h.status = 'active'
         AND h.last_seen > now() - make_interval(secs => $2::float8 / 1000)
         AND jsonb_array_length(h.capabilities->'backupDrivers') > 0
       ORDER BY
         (h.id = (SELECT p.host_id FROM projects p WHERE p.id = $1)) IS TRUE DESC,
         (h.id = (SELECT b.host_id FROM backups b WHERE b.project_id = $1
           ORDER BY b.created_at DESC LIMIT 1)) IS TRUE DESC, h.id
       LIMIT 1`,
      [projectId, this.config.hostOfflineAfterMs],
    );
    return row?.id;
  }
}

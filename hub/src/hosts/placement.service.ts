import { Inject, Injectable } from '@nestjs/common';
import { MiB, newId } from '@rookery/core';
import type { Quota } from '@rookery/core/contract';
import { MoveErrors } from '@rookery/move';
import { type EntityManager } from 'typeorm';
import { HUB_CONFIG, type HubConfig } from '../config/config.js';
import type { ProjectHost } from '../database/entities/host.entity.js';
import { PlacementDecision, PlacementReservation } from '../database/entities/placement.entity.js';
import type { Project } from '../database/entities/project.entity.js';
import { HubErrors } from '../hub.errors.js';
import {
  brokenPromises,
  rankHosts,
  type Candidate,
  type HostFigures,
  type Need,
  countReasons,
  recordedCandidatesMax,
} from './placement.js';

const placementLock = 728_404;
/** Quotas are limits, not use: this part of them is set aside when a project is placed. */
const diskShare = 20;
const memoryShare = 16;
const diskNeedMin = 256 * MiB;

export interface PlacementRequest {
  readonly operationId: string;
  readonly projectId: string;
  readonly quota: Quota;
  /** Bytes that will surely be written, when known (a move, a restore). */
  readonly usedBytes?: number | undefined;
  readonly image: string;
  readonly imageDigest?: string | null;
  /** Id or name; absent: the best host. */
  readonly host?: string | undefined;
  readonly exceptHostId?: string | null;
  readonly region?: string | undefined;
  /** A copy that stays where its source is, cordoned or not. */
  readonly stays?: boolean;
}

export interface ChosenHost {
  readonly id: string;
  readonly name: string;
  readonly publicUrl: string;
}

interface HostRow {
  readonly id: string;
  readonly name: string;
  readonly region: string;
  readonly public_url: string;
  readonly schedulable: boolean;
  readonly online: boolean;
  readonly capacity: ProjectHost['capacity'];
  readonly capabilities: ProjectHost['capabilities'];
  readonly images: string[];
  readonly projects: number;
  readonly reserved_disk: string;
  readonly reserved_memory: string;
  readonly promised_disk: string;
  readonly promised_memory: string;
}

/** Chooses hosts, records why, and sets room aside: all in the transaction of what needs it. */
@Injectable()
export class PlacementService {
  constructor(@Inject(HUB_CONFIG) private readonly config: HubConfig) {}

  /**
   * Chooses a host and reserves room on it until the operation has ended and its use shows.
   * Placements take turns, so that each sees the reservations of the one before.
   * @throws NO_HOST; for a named host HOST_UNKNOWN, HOST_OFFLINE, HOST_CORDONED, DESTINATION_FULL
   */
  async place(manager: EntityManager, request: PlacementRequest): Promise<ChosenHost> {
    await manager.query('SELECT pg_advisory_xact_lock($1)', [placementLock]);
    const rows = await this.hosts(manager, request.projectId);
    const need = needOf(request);
    const wanted = request.host === undefined ? undefined : findHost(rows, request.host);
    const ranked = rankHosts(
      (wanted ? [wanted] : rows.filter((row) => row.id !== request.exceptHostId))
        .map(figuresOf)
        .map((host) => (request.stays ? { ...host, schedulable: true } : host)),
      need,
      this.config.overcommit,
    );
    const best = ranked[0];
    if (wanted && best) refuseNamed(best, need);
    const chosen = best?.eligible === true ? rows.find((row) => row.id === best.hostId) : undefined;
    if (!chosen) throw HubErrors.NO_HOST({ reasons: whyNone(ranked) });
    await manager.insert(PlacementDecision, {
      id: newId(),
      projectId: request.projectId,
      chosenHostId: chosen.id,
      candidates: ranked
        .slice(0, recordedCandidatesMax)
        .map(({ free: _free, online: _o, schedulable: _s, ...view }) => view),
      others: {
        count: Math.max(0, ranked.length - recordedCandidatesMax),
        reasons: countReasons(ranked.slice(recordedCandidatesMax)),
      },
    });
    return { id: chosen.id, name: chosen.name, publicUrl: chosen.public_url };
  }

  /**
   * Sets the room aside, and promises the quota, after the operation's row exists. The promise lasts
   * as long as the operation; the room until the host's own figures show what was used.
   */
  async reserve(manager: EntityManager, request: PlacementRequest, hostId: string): Promise<void> {
    const { diskBytes, memoryBytes, quota } = needOf(request);
    const { operationId, projectId } = request;
    await manager.insert(PlacementReservation, {
      operationId,
      hostId,
      projectId,
      diskBytes,
      memoryBytes,
      promisedDiskBytes: quota.diskBytes,
      promisedMemoryBytes: quota.memoryBytes,
    });
  }

  /** One host by id or name. @throws HOST_UNKNOWN */
  async find(manager: EntityManager, idOrName: string): Promise<ChosenHost & { online: boolean }> {
    const row = findHost(await this.hosts(manager), idOrName);
    return { id: row.id, name: row.name, publicUrl: row.public_url, online: row.online };
  }

  /**
   * Promises a project more on its host than it has, from the operation's beginning: several that
   * grow at once see each other.
   * @throws QUOTA_OVER_HOST
   */
  async promise(
    manager: EntityManager,
    operationId: string,
    { id, hostId, runQuota }: Pick<Project, 'id' | 'hostId' | 'runQuota'>,
    wanted: Quota,
  ): Promise<void> {
    // What it has already is no new promise.
    const grown = {
      diskBytes: wanted.diskBytes > runQuota.diskBytes ? wanted.diskBytes : 0,
      memoryBytes: wanted.memoryBytes > runQuota.memoryBytes ? wanted.memoryBytes : 0,
    };
    if (hostId === null || (grown.diskBytes === 0 && grown.memoryBytes === 0)) return;
    await manager.query('SELECT pg_advisory_xact_lock($1)', [placementLock]);
    const row = (await this.hosts(manager, id)).find((each) => each.id === hostId);
    if (!row) return;
    const reasons = brokenPromises(figuresOf(row), grown, this.config.overcommit);
    if (reasons.length > 0) {
      throw HubErrors.QUOTA_OVER_HOST({ host: row.name, reasons: reasons.join(', ') });
    }
    await manager.insert(PlacementReservation, {
      operationId,
      hostId,
      projectId: id,
      diskBytes: 0,
      memoryBytes: 0,
      promisedDiskBytes: grown.diskBytes,
      promisedMemoryBytes: grown.memoryBytes,
    });
  }

  /** @param exceptProjectId whose quota is no promise yet */
  private hosts(manager: EntityManager, exceptProjectId?: string): Promise<HostRow[]> {
    return manager.query<HostRow[]>(hostsWithPromises, [
      this.config.hostOfflineAfterMs,
      exceptProjectId ?? null,
    ]);
  }
}

/**
 * The hosts with what is free, set aside and promised there. A project counts once: where it is, and
 * with the most that any of its operations under way promises it at that host. What a move brings is
 * promised from its beginning, and no longer once the move has ended, however it did.
 */
const hostsWithPromises = `
  SELECT h.id, h.name, h.region, h.public_url, h.schedulable, h.capacity, h.capabilities, h.images,
    coalesce(h.last_seen > now() - make_interval(secs => $1::float8 / 1000), false) AS online,
    (SELECT count(*)::int FROM projects p
      WHERE p.host_id = h.id AND p.deleted_at IS NULL) AS projects,
    coming.reserved_disk, coming.reserved_memory,
    here.disk + coming.promised_disk AS promised_disk,
    here.memory + coming.promised_memory AS promised_memory
  FROM project_hosts h
  CROSS JOIN LATERAL (
    SELECT coalesce(sum((p.run_quota->>'diskBytes')::numeric), 0) AS disk,
      coalesce(sum((p.run_quota->>'memoryBytes')::numeric), 0) AS memory
    FROM projects p
    WHERE p.host_id = h.id AND p.deleted_at IS NULL AND p.id IS DISTINCT FROM $2::uuid
  ) here
  CROSS JOIN LATERAL (
    SELECT coalesce(sum(r.disk), 0) AS reserved_disk, coalesce(sum(r.memory), 0) AS reserved_memory,
      coalesce(sum(greatest(0, r.promised_disk -
        coalesce((p.run_quota->>'diskBytes')::numeric, 0))), 0) AS promised_disk,
      coalesce(sum(greatest(0, r.promised_memory -
        coalesce((p.run_quota->>'memoryBytes')::numeric, 0))), 0) AS promised_memory
    FROM (
      SELECT one.project_id, max(one.disk_bytes) AS disk, max(one.memory_bytes) AS memory,
        max(one.promised_disk_bytes) FILTER (WHERE o.ended_at IS NULL) AS promised_disk,
        max(one.promised_memory_bytes) FILTER (WHERE o.ended_at IS NULL) AS promised_memory
      FROM placement_reservations one JOIN operations o ON o.id = one.operation_id
      WHERE one.host_id = h.id AND one.project_id IS DISTINCT FROM $2::uuid
      GROUP BY one.project_id
    ) r
    LEFT JOIN projects p ON p.id = r.project_id AND p.host_id = h.id AND p.deleted_at IS NULL
  ) coming
  WHERE h.status = 'active' ORDER BY h.id`;

function needOf(request: PlacementRequest): Need {
  const share = Math.max(diskNeedMin, Math.floor(request.quota.diskBytes / diskShare));
  return {
    diskBytes: Math.max(Math.min(request.quota.diskBytes, share), request.usedBytes ?? 0),
    memoryBytes: Math.floor(request.quota.memoryBytes / memoryShare),
    image: request.imageDigest ?? request.image,
    region: request.region,
    quota: request.quota,
  };
}

function findHost(rows: readonly HostRow[], idOrName: string): HostRow {
  const name = idOrName.toLowerCase();
  const row = rows.find((each) => each.id === name || each.name.toLowerCase() === name);
  if (!row) throw HubErrors.HOST_UNKNOWN({ host: idOrName });
  return row;
}

const figuresOf = (row: HostRow): HostFigures => ({
  hostId: row.id,
  host: row.name,
  region: row.region,
  online: row.online,
  schedulable: row.schedulable,
  projects: row.projects,
  images: row.images,
  diskBytes: row.capacity.diskBytes,
  diskFreeBytes: row.capacity.diskFreeBytes - Number(row.reserved_disk),
  memoryBytes: row.capacity.memoryBytes,
  memoryFreeBytes: row.capacity.memoryFreeBytes - Number(row.reserved_memory),
  promised: {
    diskBytes: Number(row.promised_disk),
    memoryBytes: Number(row.promised_memory),
  },
});

/** A person named this host: say what is wrong with it. */
function refuseNamed(candidate: Candidate, need: Need): void {
  const { host, free } = candidate;
  if (!candidate.online) throw HubErrors.HOST_OFFLINE({ host });
  if (!candidate.schedulable) throw HubErrors.HOST_CORDONED({ host });
  if (!candidate.eligible) {
    throw MoveErrors.DESTINATION_FULL(
      { host, freeBytes: Math.max(0, free.diskBytes), needBytes: need.diskBytes },
      { message: `The host ${host} has no room: ${candidate.reasons.join(', ')}.` },
    );
  }
}

function whyNone(ranked: readonly Candidate[]): string {
  if (ranked.length === 0) return 'There is no other host. Join one with a join token.';
  const named = ranked
    .slice(0, recordedCandidatesMax)
    .map(({ host, reasons }) => `${host}: ${reasons.join(', ')}.`);
  const others = Object.entries(countReasons(ranked.slice(recordedCandidatesMax)))
    .map(([reason, count]) => `${count} ${reason}`)
    .join(', ');
  return [...named, ...(others === '' ? [] : [`Others: ${others}.`])].join(' ');
}

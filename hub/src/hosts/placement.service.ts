import { Inject, Injectable } from '@nestjs/common';
import { MiB, newId } from '@rookery/core';
import type { Quota } from '@rookery/core/contract';
import { MoveErrors } from '@rookery/move';
import { type EntityManager } from 'typeorm';
import { HUB_CONFIG, type HubConfig } from '../config/config.js';
import type { ProjectHost } from '../database/entities/host.entity.js';
import { PlacementDecision, PlacementReservation } from '../database/entities/placement.entity.js';
import { HubErrors } from '../hub.errors.js';
import {
  rankHosts,
  type Candidate,
  type HostFigures,
  type Need,
  countReasons,
  recordedCandidatesMax,
} from './placement.js';

const placementLock = 728_404;
/** Quotas are limits, not use: this part of them is set aside when a project is placed. */
const diskOvercommit = 20;
const memoryOvercommit = 16;
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
    const rows = await this.hosts(manager);
    const need = needOf(request);
    const wanted = request.host === undefined ? undefined : findHost(rows, request.host);
    const ranked = rankHosts(
      (wanted ? [wanted] : rows.filter((row) => row.id !== request.exceptHostId)).map(figuresOf),
      need,
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

  /** Sets the room aside; after the operation's row exists. */
  async reserve(manager: EntityManager, request: PlacementRequest, hostId: string): Promise<void> {
    const { diskBytes, memoryBytes } = needOf(request);
    const { operationId } = request;
    await manager.insert(PlacementReservation, { operationId, hostId, diskBytes, memoryBytes });
  }

  /** One host by id or name. @throws HOST_UNKNOWN */
  async find(manager: EntityManager, idOrName: string): Promise<ChosenHost & { online: boolean }> {
    const row = findHost(await this.hosts(manager), idOrName);
    return { id: row.id, name: row.name, publicUrl: row.public_url, online: row.online };
  }

  private hosts(manager: EntityManager): Promise<HostRow[]> {
    return manager.query<HostRow[]>(
      `SELECT h.id, h.name, h.region, h.public_url, h.schedulable, h.capacity, h.capabilities,
         h.images,
         coalesce(h.last_seen > now() - make_interval(secs => $1::float8 / 1000), false) AS online,
         (SELECT count(*)::int FROM projects p
           WHERE p.host_id = h.id AND p.deleted_at IS NULL) AS projects,
         (SELECT coalesce(sum(disk_bytes), 0) FROM placement_reservations r
           WHERE r.host_id = h.id) AS reserved_disk,
         (SELECT coalesce(sum(memory_bytes), 0) FROM placement_reservations r
           WHERE r.host_id = h.id) AS reserved_memory
       FROM project_hosts h WHERE h.status = 'active' ORDER BY h.id`,
      [this.config.hostOfflineAfterMs],
    );
  }
}

function needOf(request: PlacementRequest): Need {
  const share = Math.max(diskNeedMin, Math.floor(request.quota.diskBytes / diskOvercommit));
  return {
    diskBytes: Math.max(Math.min(request.quota.diskBytes, share), request.usedBytes ?? 0),
    memoryBytes: Math.floor(request.quota.memoryBytes / memoryOvercommit),
    image: request.imageDigest ?? request.image,
    region: request.region,
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

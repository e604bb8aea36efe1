import { Injectable } from '@nestjs/common';
import { IsNull, type EntityManager } from 'typeorm';
import { AuditService } from '../audit/audit.service.js';
import type { ProjectHost } from '../database/entities/host.entity.js';
import { Project } from '../database/entities/project.entity.js';
import { HubErrors } from '../hub.errors.js';
import { OperationResolver } from '../operations/operation-resolver.js';

interface Unended {
  readonly id: string;
  readonly kind: string;
  readonly step: string | null;
  readonly committed: boolean | null;
  readonly isSource: boolean;
  readonly isDestination: boolean;
}

/** What became of the projects of a host that is gone for good. */
export interface LostHost {
  /** They had left a host for it that still has them, and are that one's again. */
  readonly projectsTakenBack: number;
  /** Nothing but their backups is left, if they have any. */
  readonly projectsLost: number;
}

/**
 * Ends what a host took part in that will not come back. Work that needs nobody but the other host
 * goes on; a project of which another host still has all goes back to that one; of the others the
 * newest backup is what there is, so they are shown as archived.
 */
@Injectable()
export class LostHosts {
  constructor(
    private readonly audit: AuditService,
    private readonly resolver: OperationResolver,
  ) {}

  /** In a transaction that holds the host, which is marked as removed already. */
  async settle(manager: EntityManager, host: ProjectHost, actor: string): Promise<LostHost> {
    const reason = `host ${host.name} was removed as lost`;
    let projectsTakenBack = 0;
    for (const operation of await unendedAt(manager, host.id)) {
      const as = endingOf(operation);
      if (as === undefined) continue;
      const settled = await this.resolver.end(manager, operation.id, { as, actor, reason });
      if (settled.takenBackTo) projectsTakenBack += 1;
    }
    const lost = await manager.find(Project, {
      where: { hostId: host.id, deletedAt: IsNull() },
      lock: { mode: 'pessimistic_write' },
    });
    for (const project of lost) await this.lose(manager, project, host, actor);
    return { projectsTakenBack, projectsLost: lost.length };
  }

  private async lose(
    manager: EntityManager,
    project: Project,
    host: ProjectHost,
    actor: string,
  ): Promise<void> {
    const hasBackup = project.lastBackupAt !== null;
    const { code, message, status, retryable } = hasBackup
      ? HubErrors.HOST_LOST({ host: host.name })
      : HubErrors.PROJECT_LOST({ host: host.name });
    await manager.update(Project, project.id, {
      hostId: null,
      host: null,
      moveStatus: null,
      provisioned: false,
      error: { code, message, status, retryable },
      stateSetAt: () => 'now()',
      ...(hasBackup ? { state: 'archived', desiredState: 'archived' } : { state: 'error' }),
    });
    await this.audit.record(manager, {
      actor,
      action: 'project.host-lost',
      subject: `project:${project.id}`,
      details: { hostId: host.id, lastBackupAt: project.lastBackupAt },
    });
  }
}

/** Undefined: it goes on by itself, without the host. */
function endingOf(operation: Unended): 'failed' | 'done' | undefined {
  const { kind, step, committed, isSource, isDestination } = operation;
  if (kind === 'project.delete') return 'done';
  if (committed === null) return 'failed';
  if (!committed) return kind === 'backup.replace' && isSource ? undefined : 'failed';
  if (!isDestination) return undefined;
  return kind === 'project.move' && step !== 'cleaning' ? 'failed' : 'done';
}

function unendedAt(manager: EntityManager, hostId: string): Promise<Unended[]> {
  return manager.query<Unended[]>(
    `SELECT o.id, o.kind, o.step, CASE WHEN m.id IS NOT NULL THEN m.new_generation IS NOT NULL END AS committed,
       coalesce(m.from_host_id = $1, false) AS "isSource",
       coalesce(m.to_host_id = $1, false) AS "isDestination"
     FROM operations o
     LEFT JOIN project_moves m ON m.operation_id = o.id
     LEFT JOIN projects p ON p.id = o.project_id
     WHERE o.ended_at IS NULL AND CASE
       WHEN m.id IS NOT NULL THEN m.from_host_id = $1 OR m.to_host_id = $1
       ELSE p.host_id = $1 OR (o.kind = 'host.drain' AND o.host_id = $1) END
     ORDER BY o.created_at`,
    [hostId],
  );
}

import { Injectable } from '@nestjs/common';
import { DataSource, IsNull } from 'typeorm';
import { Operation } from '../database/entities/operation.entity.js';
import { Project } from '../database/entities/project.entity.js';
import { HubErrors } from '../hub.errors.js';
import { ProjectRepository } from '../projects/project.repository.js';
import { ProjectOperations } from '../projects/project-operations.service.js';
import { OperationStore } from './operation.store.js';
import { isLaneTaken } from './operations.service.js';
import { ChildOperations, type ChildView } from './sagas/children.js';

/** Operations below another one, in Postgres. */
@Injectable()
export class PostgresChildOperations extends ChildOperations {
  constructor(
    private readonly dataSource: DataSource,
    private readonly work: ProjectOperations,
    private readonly records: ProjectRepository,
    private readonly store: OperationStore,
  ) {
    super();
  }

  async beginMove(parent: {
    readonly parentId: string;
    readonly projectId: string;
    readonly host?: string;
  }): Promise<ChildView> {
    const { parentId, projectId, host } = parent;
    const operation = await this.work.begin(async (manager) => {
      const project = await manager.findOne(Project, {
        where: { id: projectId, deletedAt: IsNull() },
        lock: { mode: 'pessimistic_write' },
      });
      if (!project) throw HubErrors.PROJECT_UNKNOWN({ id: projectId });
      // The project's lock makes a repeated call wait for the first one's row.
      const begun = await manager.findOneBy(Operation, { parentId, projectId });
      return begun ?? this.work.insertMove(manager, project, { host, parentId });
    });
    return toChild(operation);
  }

  async list(parentId: string): Promise<ChildView[]> {
    return (await this.dataSource.manager.findBy(Operation, { parentId })).map(toChild);
  }

  cancel(operationId: string): Promise<void> {
    return this.store.requestCancel(operationId);
  }

  async projectsOn(hostId: string): Promise<string[]> {
    const rows = await this.dataSource.manager.find(Project, {
      where: { hostId, deletedAt: IsNull() },
      order: { createdAt: 'ASC' },
    });
    return rows.map((row) => row.id);
  }

  async setLane(operationId: string, attempt: number, lane: 'lifecycle' | null): Promise<void> {
    try {
      await this.dataSource.transaction(async (manager) => {
        await this.records.holdAttempt(manager, { operationId, attempt });
        await manager.update(Operation, operationId, { lane });
      });
    } catch (error) {
      if (lane === null || !isLaneTaken(error)) throw error;
      const { projectId } = await this.dataSource.manager.findOneByOrFail(Operation, {
        id: operationId,
      });
      const [other] = await this.dataSource.manager.findBy(Operation, {
        projectId: projectId ?? '',
        lane,
        endedAt: IsNull(),
      });
      if (!other) throw error;
      throw HubErrors.PROJECT_BUSY({ kind: other.kind, operationId: other.id });
    }
  }
}

const toChild = (row: Operation): ChildView => ({
  operationId: row.id,
  projectId: row.projectId ?? '',
  state: row.state,
  ended: row.endedAt !== null,
  error: row.error,
});

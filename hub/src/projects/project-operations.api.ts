import { Injectable } from '@nestjs/common';
import type { Route } from '@rookery/api';
import { parseImageRef } from '@rookery/runner';
import type { Caller } from '../accounts/auth.service.js';
import type { ApiCall, ApiHandlers, ApiPart } from '../api/handlers.js';
import type { Operation } from '../database/entities/operation.entity.js';
import { OperationsService } from '../operations/operations.service.js';
import { ProjectOperations } from './project-operations.service.js';
import { quotaWith, type RequestContext } from './project-request.js';
import { RestoreOperations } from './restore-operations.service.js';

type Names =
  | 'createProject'
  | 'startProject'
  | 'stopProject'
  | 'resetRootfs'
  | 'deleteProject'
  | 'moveProject'
  | 'cloneProject'
  | 'archiveProject'
  | 'rehydrateProject';

const asking = ({ caller, idempotencyKey }: ApiCall<Route>): RequestContext => ({
  caller,
  idempotencyKey,
});

/** Everything that a project's owner begins and then follows as an operation. */
@Injectable()
export class ProjectOperationsApi implements ApiPart<Names> {
  readonly handlers: ApiHandlers<Names> = {
    createProject: async (call) => {
      const { name, image, host, quota, egress = null, start } = call.body;
      if (image !== undefined) parseImageRef(image);
      const choice = { name, image, host, quota: quotaWith(quota), egress };
      return this.startedWithProject(
        await this.work.create(asking(call), choice, start),
        call.caller,
      );
    },
    startProject: async (call) => {
      const { rescue } = call.body;
      const operation = await this.work.start(asking(call), call.params.projectId, rescue);
      return this.started(operation, call.caller);
    },
    stopProject: async (call) => {
      const { graceMs } = call.body;
      const operation = await this.work.stop(asking(call), call.params.projectId, graceMs);
      return this.started(operation, call.caller);
    },
    resetRootfs: async (call) => {
      const { discard } = call.body;
      const operation = await this.work.resetRootfs(asking(call), call.params.projectId, discard);
      return this.started(operation, call.caller);
    },
    deleteProject: async (call) => {
      const force = call.query.force === 'true';
      const operation = await this.work.delete(asking(call), call.params.projectId, force);
      return this.started(operation, call.caller);
    },
    moveProject: async (call) => {
      const { host } = call.body;
      const operation = await this.work.move(asking(call), call.params.projectId, host);
      return this.started(operation, call.caller);
    },
    cloneProject: async (call) => {
      const operation = await this.work.clone(asking(call), call.params.projectId, call.body);
      return this.startedWithProject(operation, call.caller);
    },
    archiveProject: async (call) =>
      this.started(await this.work.archive(asking(call), call.params.projectId), call.caller),
    rehydrateProject: async (call) => {
      const { projectId } = call.params;
      const operation = await this.restores.rehydrate(asking(call), projectId, call.body);
      return this.started(operation, call.caller);
    },
  };

  constructor(
    private readonly work: ProjectOperations,
    private readonly restores: RestoreOperations,
    private readonly operations: OperationsService,
  ) {}

  private started(operation: Operation, caller: Caller) {
    return this.operations.started(operation, caller);
  }

  private async startedWithProject(operation: Operation, caller: Caller) {
    const { project, ...started } = await this.operations.started(operation, caller);
    if (!project) throw new TypeError(`operation ${operation.id} has no project to show`);
    return { ...started, project };
  }
}

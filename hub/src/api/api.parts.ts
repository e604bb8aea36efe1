import { Injectable } from '@nestjs/common';
import { AccountsApi } from '../accounts/accounts.api.js';
import { AuditApi } from '../audit/audit.api.js';
import { BackupsApi } from '../projects/backups.api.js';
import { HostBackupsApi } from '../projects/host-backups.api.js';
import { CollaboratorsApi } from '../projects/collaborators.api.js';
import { HostCopiesApi } from '../hosts/copies.api.js';
import { HostsApi } from '../hosts/hosts.api.js';
import { OperationsApi } from '../operations/operations.api.js';
import { ProjectsApi } from '../projects/projects.api.js';
import { ProjectOperationsApi } from '../projects/project-operations.api.js';
import { SessionsApi } from '../accounts/sessions.api.js';
import { SnapshotsApi } from '../projects/snapshots.api.js';
import { HealthApi } from './health.api.js';

/** Every folder's part, gathered so that the compiler sees that none is missing. */
@Injectable()
export class ApiDependencies {
  constructor(
    readonly accounts: AccountsApi,
    readonly audit: AuditApi,
    readonly backups: BackupsApi,
    readonly collaborators: CollaboratorsApi,
    readonly copies: HostCopiesApi,
    readonly health: HealthApi,
    readonly hostBackups: HostBackupsApi,
    readonly hosts: HostsApi,
    readonly operations: OperationsApi,
    readonly projects: ProjectsApi,
    readonly sessions: SessionsApi,
    readonly snapshots: SnapshotsApi,
    readonly work: ProjectOperationsApi,
  ) {}
}

import { BackupId, RepositoryView } from '@rookery/fleet/contract';
import { DisplayName, HostId, OperationId, ProjectId } from '@rookery/core/contract';
import { z } from 'zod';
import { route } from './route.js';
import {
  AccountName,
  AuditView,
  HostCopyView,
  HostView,
  OperationView,
  pageOf,
  PageQuery,
  ProjectBackupsView,
  Started,
} from './views.js';

const none = z.object({});
const ofHost = z.object({ hostId: HostId });
const ofCopy = ofHost.extend({ projectId: ProjectId });
const ofOperation = z.object({ operationId: OperationId });
const base = { params: none, query: none, body: none } as const;

/** Hosts. */
export const fleet = {
  listHosts: route('GET', '/hosts', {
    ...base,
    summary: 'Hosts',
    tag: 'hosts',
    query: PageQuery,
    response: pageOf(HostView),
  }),
  getHost: route('GET', '/hosts/{hostId}', {
    ...base,
    summary: 'One host',
    tag: 'hosts',
    params: ofHost,
    response: HostView,
    errors: ['HOST_UNKNOWN'],
  }),
  createJoinToken: route('POST', '/hosts/join-tokens', {
    ...base,
    summary: 'A one-time token with which a host joins (administrators)',
    tag: 'hosts',
    body: z.object({ expiresInMinutes: z.int().min(1).max(10_080).default(60) }),
    response: z.object({ token: z.string(), expiresAt: z.iso.datetime() }),
    status: 201,
  }),
  updateHost: route('PATCH', '/hosts/{hostId}', {
    ...base,
    summary: 'Cordon or uncordon',
    tag: 'hosts',
    params: ofHost,
    body: z.object({ schedulable: z.boolean() }),
    response: HostView,
  }),
  drainHost: route('POST', '/hosts/{hostId}/drain', {
    ...base,
    summary: 'Cordon, and move every project away',
    tag: 'hosts',
    params: ofHost,
    body: z.object({ parallel: z.int().min(1).max(16).default(2) }),
    response: Started,
    status: 202,
  }),
  initBackupRepository: route('POST', '/hosts/{hostId}/backup-repository', {
    ...base,
    summary: 'Make the backup repository of a host, or use the one that is there',
    tag: 'hosts',
    params: ofHost,
    body: z.object({
      /** Also when the host has used another one so far. */
      adopt: z.boolean().default(false),
    }),
    response: RepositoryView,
    errors: ['REPOSITORY_CHANGED', 'HOST_OFFLINE'],
  }),
  listHostBackups: route('GET', '/hosts/{hostId}/backups', {
    ...base,
    summary: 'What the repository of a host holds, by project, newest first (administrators)',
    tag: 'backups',
    params: ofHost,
    query: PageQuery.extend({
      unknown: z
        .enum(['true', 'false'])
        .default('false')
        .describe('only projects that this hub does not have'),
    }),
    response: pageOf(ProjectBackupsView),
    errors: ['HOST_UNKNOWN', 'HOST_OFFLINE', 'REPOSITORY_MISSING'],
  }),
  reindexHostBackups: route('POST', '/hosts/{hostId}/backups/reindex', {
    ...base,
    summary: 'Look into the repository of a host and list all that it holds (administrators)',
    tag: 'backups',
    params: ofHost,
    response: z.object({
      /** In the repository, of all projects. */
      backups: z.int(),
      projects: z.int(),
    }),
    errors: ['HOST_UNKNOWN', 'HOST_OFFLINE', 'REPOSITORY_MISSING'],
  }),
  adoptBackup: route('POST', '/hosts/{hostId}/backups/{projectId}/adopt', {
    ...base,
    summary: 'Make a project of a backup whose project this hub does not have (administrators)',
    tag: 'backups',
    params: ofHost.extend({ projectId: ProjectId }),
    body: z.object({
      backupId: BackupId.or(z.literal('latest')).default('latest'),
      /** Absent: the name that the backup tells. */
      name: DisplayName.optional(),
      /** Absent: the caller. */
      owner: AccountName.optional(),
      /** Id or name of the host that gets it; absent: the one whose repository it is. */
      host: z.string().max(100).optional(),
      /** Under a new id, although its own is free. */
      newId: z.boolean().default(false),
      start: z.boolean().default(false),
    }),
    response: Started,
    status: 202,
    errors: [
      'HOST_UNKNOWN',
      'HOST_OFFLINE',
      'BACKUP_NOT_FOUND',
      'ACCOUNT_UNKNOWN',
      'PROJECT_KNOWN',
      'PROJECT_COPY_FOUND',
      'DESTINATION_FULL',
    ],
  }),
  listHostCopies: route('GET', '/hosts/{hostId}/copies', {
    ...base,
    summary: 'What a host holds of projects that it does not run as its own',
    tag: 'hosts',
    params: ofHost,
    response: z.object({ items: z.array(HostCopyView) }),
    errors: ['HOST_UNKNOWN', 'HOST_OFFLINE'],
  }),
  updateHostCopy: route('PATCH', '/hosts/{hostId}/copies/{projectId}', {
    ...base,
    summary: 'Keep a copy: it stays listed, and is no problem any more',
    tag: 'hosts',
    params: ofCopy,
    body: z.object({ kept: z.boolean() }),
    response: HostCopyView,
    errors: ['HOST_UNKNOWN', 'HOST_OFFLINE', 'COPY_UNKNOWN'],
  }),
  deleteHostCopy: route('DELETE', '/hosts/{hostId}/copies/{projectId}', {
    ...base,
    summary: 'Remove a copy with its snapshots',
    tag: 'hosts',
    params: ofCopy,
    response: Started,
    status: 202,
    errors: ['HOST_UNKNOWN', 'HOST_OFFLINE', 'COPY_UNKNOWN', 'COPY_IS_OWNED', 'PROJECT_BUSY'],
  }),
  adoptHostCopy: route('POST', '/hosts/{hostId}/copies/{projectId}/adopt', {
    ...base,
    summary: 'Take the files on the owner’s disk for the project again; it starts if it shall run',
    tag: 'hosts',
    params: ofCopy,
    response: Started,
    status: 202,
    errors: ['HOST_UNKNOWN', 'PROJECT_UNKNOWN', 'COPY_NOT_OWNED', 'PROJECT_BUSY'],
  }),
  removeHost: route('DELETE', '/hosts/{hostId}', {
    ...base,
    summary: 'Forget a host that owns no project, or one that is gone for good',
    tag: 'hosts',
    params: ofHost,
    query: z.object({
      lost: z
        .enum(['true', 'false'])
        .default('false')
        .describe('it will not come back: end its work, and give up what it alone has'),
    }),
    response: z.object({
      /** Another host still had them and has them again. */
      projectsTakenBack: z.int().default(0),
      /** Their newest backup is all that is left. */
      projectsLost: z.int().default(0),
    }),
    errors: ['HOST_NOT_EMPTY', 'HOST_BUSY', 'HOST_ONLINE'],
  }),
};

/** Long work, the audit log, the hub itself. */
export const work = {
  listOperations: route('GET', '/operations', {
    ...base,
    summary: 'Long work, newest first',
    tag: 'operations',
    query: PageQuery.extend({
      projectId: ProjectId.optional(),
      state: OperationView.shape.state.optional(),
    }),
    response: pageOf(OperationView),
  }),
  getOperation: route('GET', '/operations/{operationId}', {
    ...base,
    summary: 'One operation',
    tag: 'operations',
    params: ofOperation,
    response: OperationView,
  }),
  watchOperation: route('GET', '/operations/{operationId}/events', {
    ...base,
    summary: 'Live progress; ends with the final view',
    tag: 'operations',
    params: ofOperation,
    response: OperationView,
    kind: 'events',
  }),
  cancelOperation: route('POST', '/operations/{operationId}/cancel', {
    ...base,
    summary: 'Ask to stop and undo',
    tag: 'operations',
    params: ofOperation,
    response: OperationView,
    errors: ['CANCEL_TOO_LATE'],
  }),
  retryOperation: route('POST', '/operations/{operationId}/retry', {
    ...base,
    summary: 'Let a stuck operation go on at once',
    tag: 'operations',
    params: ofOperation,
    response: OperationView,
    errors: ['OPERATION_ENDED'],
  }),
  resolveOperation: route('POST', '/operations/{operationId}/resolve', {
    ...base,
    summary: 'End an operation by hand; its view says what that leaves (administrators)',
    tag: 'operations',
    params: ofOperation,
    body: z.object({ as: z.enum(['failed', 'done']) }),
    response: OperationView,
    errors: ['OPERATION_ENDED', 'RESOLVE_REFUSED'],
  }),
  listAudit: route('GET', '/audit', {
    ...base,
    summary: 'Who changed what (administrators)',
    tag: 'audit',
    query: PageQuery.extend({ subject: z.string().optional() }),
    response: pageOf(AuditView),
  }),
  getHealth: route('GET', '/health', {
    ...base,
    summary: 'Whether the hub works',
    tag: 'hub',
    response: z.object({ status: z.literal('ok'), version: z.string() }),
    authenticated: false,
  }),
};

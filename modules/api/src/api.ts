import {
  DisplayName,
  HostId,
  Egress,
  Port,
  ProjectId,
  ProjectRole,
  RelativePath,
  SnapshotName,
} from '@rookery/core/contract';
import { SnapshotView, BackupId, ContainerStats } from '@rookery/fleet/contract';
import { z } from 'zod';
import { accounts } from './account-routes.js';
import { fleet, work } from './fleet-routes.js';
import { route } from './route.js';
import {
  AccountName,
  BackupView,
  CollaboratorView,
  pageOf,
  PageQuery,
  PlacementView,
  ProjectView,
  QuotaInput,
  Started,
} from './views.js';

const none = z.object({});
const ofProject = z.object({ projectId: ProjectId });
const ofSnapshot = ofProject.extend({ name: SnapshotName });
const base = { params: none, query: none, body: none } as const;

const projects = {
  listProjects: route('GET', '/projects', {
    ...base,
    summary: 'Projects that the caller can see',
    tag: 'projects',
    query: PageQuery.extend({ name: z.string().optional(), hostId: HostId.optional() }),
    response: pageOf(ProjectView),
  }),
  createProject: route('POST', '/projects', {
    ...base,
    summary: 'Make a project, place it and start it when asked',
    tag: 'projects',
    body: z.object({
      name: DisplayName,
      image: z.string().min(1).max(512).optional(),
      /** Id or name of a host; absent: placement chooses. */
      host: z.string().max(100).optional(),
      quota: QuotaInput.default({}),
      egress: Egress.optional().describe('what it may reach; absent: what its host allows'),
      start: z.boolean().default(false),
    }),
    response: Started.required({ project: true }),
    status: 202,
    errors: [
      'NO_HOST',
      'HOST_UNKNOWN',
      'HOST_OFFLINE',
      'HOST_CORDONED',
      'DESTINATION_FULL',
      'IMAGE_INVALID',
      'EGRESS_NOT_ALLOWED',
    ],
  }),
  getProject: route('GET', '/projects/{projectId}', {
    ...base,
    summary: 'One project',
    tag: 'projects',
    params: ofProject,
    response: ProjectView,
    errors: ['PROJECT_UNKNOWN'],
  }),
  updateProject: route('PATCH', '/projects/{projectId}', {
    ...base,
    summary: 'Rename, change the quota, the public ports or what it may reach',
    tag: 'projects',
    params: ofProject,
    body: z.object({
      name: DisplayName.optional(),
      quota: QuotaInput.optional(),
      publicPorts: z.array(Port).max(100).optional(),
      egress: Egress.nullable().optional().describe('null: what its host allows'),
    }),
    response: ProjectView,
    errors: ['QUOTA_BELOW_USE', 'EGRESS_NOT_ALLOWED', 'PROJECT_MOVING', 'PROJECT_BUSY'],
  }),
  deleteProject: route('DELETE', '/projects/{projectId}', {
    ...base,
    summary: 'Stop and delete a project; backups stay',
    tag: 'projects',
    params: ofProject,
    query: z.object({
      force: z.enum(['true', 'false']).default('false').describe('also when it runs'),
    }),
    response: Started,
    status: 202,
    errors: ['PROJECT_RUNNING', 'PROJECT_MOVING'],
  }),
  startProject: route('POST', '/projects/{projectId}/start', {
    ...base,
    summary: 'Start; one that runs in the other mode is stopped first',
    tag: 'projects',
    params: ofProject,
    body: z.object({
      rescue: z
        .boolean()
        .default(false)
        .describe('with a clean root filesystem; what its own holds is at /rescue'),
    }),
    response: Started,
    status: 202,
    errors: ['PROJECT_MOVING', 'PROJECT_BUSY'],
  }),
  resetRootfs: route('POST', '/projects/{projectId}/reset-rootfs', {
    ...base,
    summary: 'Begin the root filesystem anew from the image (stopped for it and started again)',
    tag: 'projects',
    params: ofProject,
    body: z.object({
      discard: z.boolean().default(false).describe('keep no snapshot of what was there'),
    }),
    response: Started,
    status: 202,
    errors: ['PROJECT_MOVING', 'PROJECT_BUSY'],
  }),
  stopProject: route('POST', '/projects/{projectId}/stop', {
    ...base,
    summary: 'Stop',
    tag: 'projects',
    params: ofProject,
    body: z.object({ graceMs: z.int().min(0).max(300_000).default(10_000) }),
    response: Started,
    status: 202,
    errors: ['PROJECT_MOVING'],
  }),
  moveProject: route('POST', '/projects/{projectId}/move', {
    ...base,
    summary: 'Move to another host',
    tag: 'projects',
    params: ofProject,
    body: z.object({
      host: z.string().max(100).optional().describe('id or name; absent: placement chooses'),
    }),
    response: Started,
    status: 202,
    errors: [
      'MOVE_SAME_HOST',
      'PROJECT_MOVING',
      'HOST_UNKNOWN',
      'HOST_OFFLINE',
      'DESTINATION_FULL',
      'MOVE_UNSUPPORTED',
    ],
  }),
  cloneProject: route('POST', '/projects/{projectId}/clone', {
    ...base,
    summary: 'Make a new project with the same content, on the same host or moved to another',
    tag: 'projects',
    params: ofProject,
    body: z.object({
      name: DisplayName,
      snapshot: SnapshotName.optional(),
      host: z.string().max(100).optional(),
      start: z.boolean().default(false),
    }),
    response: Started.required({ project: true }),
    status: 202,
  }),
  archiveProject: route('POST', '/projects/{projectId}/archive', {
    ...base,
    summary: 'Back up, verify, and free the disk',
    tag: 'projects',
    params: ofProject,
    response: Started,
    status: 202,
  }),
  rehydrateProject: route('POST', '/projects/{projectId}/rehydrate', {
    ...base,
    summary: 'Bring an archived project back from its backup',
    tag: 'projects',
    params: ofProject,
    body: z.object({ host: z.string().max(100).optional(), start: z.boolean().default(false) }),
    response: Started,
    status: 202,
  }),
  getStats: route('GET', '/projects/{projectId}/stats', {
    ...base,
    summary: 'CPU, memory and processes now',
    tag: 'projects',
    params: ofProject,
    response: ContainerStats,
  }),
  listPlacements: route('GET', '/projects/{projectId}/placements', {
    ...base,
    summary: 'Why the project lives where it lives',
    tag: 'projects',
    params: ofProject,
    query: PageQuery,
    response: pageOf(PlacementView),
  }),
  listCollaborators: route('GET', '/projects/{projectId}/collaborators', {
    ...base,
    summary: 'Who may use the project',
    tag: 'projects',
    params: ofProject,
    response: z.object({ items: z.array(CollaboratorView) }),
  }),
  putCollaborator: route('PUT', '/projects/{projectId}/collaborators/{accountId}', {
    ...base,
    summary: 'Let an account use the project',
    tag: 'projects',
    params: ofProject.extend({ accountId: AccountName }),
    body: z.object({ role: ProjectRole }),
    response: CollaboratorView,
    errors: ['ACCOUNT_UNKNOWN', 'LAST_OWNER', 'FORBIDDEN'],
  }),
  deleteCollaborator: route('DELETE', '/projects/{projectId}/collaborators/{accountId}', {
    ...base,
    summary: 'Take the access away, or give up one’s own',
    tag: 'projects',
    params: ofProject.extend({ accountId: AccountName }),
    response: none,
    errors: ['ACCOUNT_UNKNOWN', 'LAST_OWNER', 'FORBIDDEN'],
  }),
};

const keeping = {
  createSnapshot: route('POST', '/projects/{projectId}/snapshots', {
    ...base,
    summary: 'Take a snapshot',
    tag: 'snapshots',
    params: ofProject,
    body: z.object({ name: SnapshotName.optional() }),
    response: SnapshotView,
    status: 201,
    errors: ['SNAPSHOT_EXISTS', 'SNAPSHOT_LIMIT', 'SNAPSHOTS_UNSUPPORTED'],
  }),
  listSnapshots: route('GET', '/projects/{projectId}/snapshots', {
    ...base,
    summary: 'Snapshots',
    tag: 'snapshots',
    params: ofProject,
    response: z.object({ items: z.array(SnapshotView) }),
  }),
  updateSnapshot: route('PATCH', '/projects/{projectId}/snapshots/{name}', {
    ...base,
    summary: 'Lock or unlock',
    tag: 'snapshots',
    params: ofSnapshot,
    body: z.object({ locked: z.boolean() }),
    response: SnapshotView,
  }),
  deleteSnapshot: route('DELETE', '/projects/{projectId}/snapshots/{name}', {
    ...base,
    summary: 'Delete a snapshot',
    tag: 'snapshots',
    params: ofSnapshot,
    response: none,
    errors: ['SNAPSHOT_LOCKED', 'SNAPSHOT_NOT_FOUND'],
  }),
  restoreSnapshot: route('POST', '/projects/{projectId}/snapshots/{name}/restore', {
    ...base,
    summary:
      'Go back to a snapshot: one path, or the whole project (stopped for it and started again)',
    tag: 'snapshots',
    params: ofSnapshot,
    body: z.object({ path: RelativePath.optional() }),
    response: Started,
    status: 202,
  }),
  runBackup: route('POST', '/projects/{projectId}/backups', {
    ...base,
    summary: 'Back up now',
    tag: 'backups',
    params: ofProject,
    response: Started,
    status: 202,
    errors: ['BACKUP_IN_PROGRESS', 'PROJECT_MOVING'],
  }),
  listBackups: route('GET', '/projects/{projectId}/backups', {
    ...base,
    summary: 'Backups, newest first',
    tag: 'backups',
    params: ofProject,
    query: PageQuery,
    response: pageOf(BackupView),
  }),
  reindexBackups: route('POST', '/projects/{projectId}/backups/reindex', {
    ...base,
    summary: 'Look into the repository and list what it holds',
    tag: 'backups',
    params: ofProject,
    response: z.object({
      /** False: no host with a repository answered. */
      asked: z.boolean(),
      backups: z.int(),
    }),
  }),
  restoreBackup: route('POST', '/projects/{projectId}/backups/{backupId}/restore', {
    ...base,
    summary: 'Restore into a new project, in place of this one, or one path',
    tag: 'backups',
    params: ofProject.extend({ backupId: BackupId.or(z.literal('latest')) }),
    body: z.object({
      host: z.string().max(100).optional(),
      path: RelativePath.optional(),
      /** Put the content in place of this project, on `host`; the generation goes up. */
      replace: z.boolean().default(false),
      /** With `replace`: keep nothing of this project but snapshots that are locked. */
      discard: z.boolean().default(false),
      /** Name of the new project. */
      name: DisplayName.optional(),
      start: z.boolean().default(false),
    }),
    response: Started,
    status: 202,
    errors: ['BACKUP_NOT_FOUND', 'HOST_OFFLINE', 'DESTINATION_FULL', 'RESTORE_NEEDS_DISCARD'],
  }),
};

/** Every operation of the HTTP API by its OpenAPI operationId. */
export const api = { ...accounts, ...projects, ...keeping, ...fleet, ...work } as const;
export type Api = typeof api;
export type OperationName = keyof Api;

export const apiPrefix = '/api/v1';

/** Header with which a repeated POST gives the first answer again. */
export const idempotencyHeader = 'idempotency-key';

import { randomUUID } from 'node:crypto';
import type { HostView, OperationView, ProjectView } from '@rookery/api';

const at = '2026-01-02T03:04:05.000Z';

/** A host that is online, with room. */
export const hostView = (name: string): HostView => ({
  id: randomUUID(),
  name,
  region: 'default',
  status: 'online',
  trouble: null,
  schedulable: true,
  publicUrl: 'http://127.0.0.1:7710',
  version: '0.1.0',
  capabilities: {
    storageDriver: 'btrfs',
    quota: 'simple',
    snapshots: true,
    sendReceive: true,
    sendProtocol: 2,
    backupDrivers: ['restic'],
  },
  capacity: {
    diskBytes: 50 * 1024 ** 3,
    diskFreeBytes: 40 * 1024 ** 3,
    memoryBytes: 8 * 1024 ** 3,
    memoryFreeBytes: 6 * 1024 ** 3,
    cpus: 2,
    projectsRunning: 1,
  },
  projects: 1,
  owed: 0,
  missing: 0,
  copies: 0,
  imagesDiffering: [],
  lastSeenAt: at,
  createdAt: at,
});

export function projectView(name: string, host: HostView, hubUrl: string): ProjectView {
  const id = randomUUID();
  return {
    id,
    name,
    state: 'stopped',
    desiredState: 'stopped',
    hostId: host.id,
    host: host.name,
    url: `${hubUrl}/${id}/port/`,
    appUrl: `http://{port}--${id}.localhost:7700/`,
    placementGeneration: 1,
    image: 'localhost/rookery/debian:13',
    imageDigest: null,
    quota: { diskBytes: 10 * 1024 ** 3, memoryBytes: 2 * 1024 ** 3, cpus: 2, pidsMax: 4096 },
    diskUsedBytes: null,
    publicPorts: [],
    egress: null,
    rescue: false,
    role: 'owner',
    lastBackupAt: null,
    createdAt: at,
    move: null,
    error: null,
  };
}

export const operationView = (
  kind: string,
  projectId: string | null,
  more: Partial<OperationView> = {},
): OperationView => ({
  id: randomUUID(),
  kind,
  projectId,
  hostId: null,
  state: 'pending',
  step: null,
  progress: null,
  attempt: 1,
  cancelRequested: false,
  error: null,
  tries: 0,
  lastError: null,
  waitsFor: null,
  leaves: [],
  result: null,
  parentId: null,
  createdAt: at,
  startedAt: at,
  endedAt: null,
  ...more,
});

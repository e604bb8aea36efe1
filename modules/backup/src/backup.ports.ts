import type { Fence, ProjectId, ProjectSpec } from '@rookery/core/contract';
import type { Clock, CodedErrorJson, Exec } from '@rookery/core';
import type { StorageDriver } from '@rookery/storage/contract';
import type { BackupDriver } from './backup.driver.js';
import type { BackupRecord } from '@rookery/fleet/contract';

export type BackupJobKind = 'backup' | 'restore' | 'restore-path';
export type BackupJobState = 'pending' | 'running' | 'succeeded' | 'failed';

/** One job, durable: what a restarted host knows about work that was under way. */
export interface BackupJob {
  /** The call that ordered it; one job an operation. */
  readonly fence: Fence;
  readonly kind: BackupJobKind;
  readonly state: BackupJobState;
  readonly startedAt: number;
  readonly endedAt?: number;
  /** Volume that a restore or a check fills: the project's own, or a stand-in. No one else's. */
  readonly stagingId?: ProjectId;
  /**
   * Of a restore whose content is complete: from here it only goes forward. The stand-in is taking
   * the project's place, and a restarted host finishes that.
   */
  readonly finishing?: {
    readonly spec: ProjectSpec;
    readonly bytes: number;
    readonly files: number;
    readonly discard?: boolean;
  };
  /** It was told to end without effect: a call of it that comes late finds that. */
  readonly givenUp?: boolean;
  readonly record?: BackupRecord;
  readonly result?: { readonly bytes: number; readonly files: number; readonly previous?: string };
  readonly error?: CodedErrorJson;
}

/**
 * Keeps jobs. Every write is on disk when its promise resolves.
 * A host keeps this in its database; tests in memory.
 */
export abstract class BackupJournal {
  abstract get(operationId: string): Promise<BackupJob | undefined>;
  /** Writes the whole row. */
  abstract put(job: BackupJob): Promise<void>;
  /** Id of the repository that this host uses; undefined until it has used one. */
  abstract repositoryId(): Promise<string | undefined>;
  abstract rememberRepository(id: string): Promise<void>;
  /** Jobs that are pending or running. */
  abstract active(): Promise<BackupJob[]>;
}

/**
 * The host's books about projects, as far as a backup needs them.
 * @throws NOT_FOUND, STALE_GENERATION, STALE_ATTEMPT, PROJECT_FENCED
 */
export abstract class BackupProjects {
  /** The project is here, at this generation, and no move has fenced it. */
  abstract authorize(fence: Fence): Promise<void>;
  /**
   * Claims the project's id for a restore, durably: nobody starts it or takes its volume away until
   * it is adopted or abandoned. Refuses a project that runs here, and an older generation.
   */
  abstract beginRestore(fence: Fence, spec: ProjectSpec): Promise<void>;
  /** The restored volume is the project's from now on: stopped, at `fence.generation`. */
  abstract adoptRestored(fence: Fence, spec: ProjectSpec): Promise<void>;
  /** Undo of `beginRestore`: what was there before counts again. */
  abstract abandonRestore(fence: Fence): Promise<void>;
}

/** What the service is made from; the app wires it. */
export interface BackupDependencies {
  readonly driver: BackupDriver;
  readonly storage: StorageDriver;
  readonly journal: BackupJournal;
  readonly projects: BackupProjects;
  /** For notes and mount points; may be lost between jobs. */
  readonly workFolder: string;
  /** Jobs of all projects that run at once. Default 2. */
  readonly concurrencyMax?: number;
  /** How long one may run. Default 12 h. */
  readonly jobMsMax?: number;
  /** After so long the next one begins beside it, until `concurrencyMax` do. Default 10 min. */
  readonly slotMsMax?: number;
  readonly exec?: Exec;
  readonly clock?: Clock;
}

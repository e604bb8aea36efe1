import type { Progress } from '@rookery/core/contract';

/** Folders on disk by the name that they have at the top of the backup. */
export type BackupFolders = Readonly<Record<string, string>>;

export interface BackupRequest {
  readonly folders: BackupFolders;
  /** Whose backup it is: `project-<id>`. */
  readonly host: string;
  readonly tags: readonly string[];
  /** Paths inside the backup (`/project/.snapshots`) that are left out. */
  readonly exclude?: readonly string[];
  /** The folders change while they are read (no snapshots here): a vanished file is no failure. */
  readonly live?: boolean;
  readonly onProgress?: (progress: Progress) => void;
  readonly signal?: AbortSignal;
}

/** One backup as its repository knows it. */
export interface StoredBackup {
  /** The repository's full id, hexadecimal. */
  readonly id: string;
  /** Milliseconds since the epoch. */
  readonly createdAt: number;
  readonly host: string;
  readonly tags: readonly string[];
  /** What the run that made it counted; older repositories do not keep it. */
  readonly summary?: BackupSummary;
}

export interface BackupSummary {
  readonly bytes: number;
  readonly files: number;
  readonly bytesAdded: number;
  readonly durationMs: number;
}

export interface RestoreRequest {
  readonly id: string;
  /** Where the folders of the backup go; folders not named here stay in the repository. */
  readonly folders: BackupFolders;
  /** Only this path inside the backup (`/project/home/notes.txt`), with all beneath it. */
  readonly include?: string;
  readonly exclude?: readonly string[];
  /** Everything from the repository itself, nothing from a cache of this machine. */
  readonly fresh?: boolean;
  /** For the progress: how much is to come. */
  readonly bytesExpected?: number;
  readonly onProgress?: (progress: Progress) => void;
  readonly signal?: AbortSignal;
}

/**
 * What a backup program must do, over one repository. Owners, modes, times, xattrs, hard links and
 * device nodes (overlay whiteouts) are kept. Ends with its effect or none: a backup that was
 * interrupted is not in the repository.
 *
 * @throws REPOSITORY_MISSING, REPOSITORY_UNREACHABLE, REPOSITORY_PASSWORD, REPOSITORY_LOCKED, REPOSITORY_FULL,
 * BACKUP_NOT_FOUND, BACKUP_FAILED, RESTORE_FAILED, RESTORE_DISK_FULL, CANCELED
 */
export abstract class BackupDriver {
  abstract readonly name: 'restic' | 'rustic';
  /** The repository's name as it is shown: its address without secrets. */
  abstract readonly repository: string;

  /** Whether the program is installed here. */
  abstract available(): Promise<boolean>;
  /**
   * Opens the repository, and makes none.
   * @returns its id, which no other has
   * @throws REPOSITORY_MISSING
   */
  abstract open(): Promise<string>;
  /** Makes the repository; one that is there already stays as it is. @returns its id */
  abstract init(): Promise<string>;

  abstract backup(request: BackupRequest): Promise<StoredBackup>;
  abstract list(filter: { host?: string; tag?: string }): Promise<StoredBackup[]>;
  /** Into folders that exist and are empty. */
  abstract restore(request: RestoreRequest): Promise<void>;
  /** Forgetting what is not there is done already. Data is freed by a later prune. */
  abstract forget(id: string): Promise<void>;
  /** @throws REPOSITORY_DAMAGED */
  abstract check(signal?: AbortSignal): Promise<void>;
}

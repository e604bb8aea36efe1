import { join } from 'node:path';
import { z } from 'zod';
import type { BackupRequest, RestoreRequest, StoredBackup } from './backup.driver.js';
import { BackupErrors } from './backup.errors.js';
import {
  ProgramDriver,
  quickMs,
  SnapshotJson,
  storedOf,
  SummaryJson,
  type ProgramDriverOptions,
} from './program.driver.js';
import { parseJson, type RunOptions } from './repository-program.js';

/** restic's own word for "a source file could not be read". */
const incompleteExit = 3;

const unlockEveryMs = 3_600_000;

const Status = z.object({
  message_type: z.literal('status'),
  bytes_done: z.number().default(0),
  total_bytes: z.number().default(0),
});
const RunSummary = SummaryJson.extend({
  message_type: z.literal('summary'),
  total_duration: z.number(),
  snapshot_id: z.string(),
});
type RunSummary = z.infer<typeof RunSummary>;
const ResticSnapshot = SnapshotJson.extend({
  // Since restic 0.17.
  summary: SummaryJson.extend({ backup_start: z.string(), backup_end: z.string() }).optional(),
});

export type ResticOptions = ProgramDriverOptions;

/** restic 0.14 or newer. */
export class ResticDriver extends ProgramDriver {
  readonly name = 'restic';
  private unlockedAt: number | undefined;
  protected readonly versionArg = 'version';

  protected readonly configArgs = ['cat', 'config', '--no-lock'];

  protected async makeBackup(request: BackupRequest): Promise<StoredBackup> {
    let summary: RunSummary | undefined;
    const exclude = (request.exclude ?? []).map((path) => join(this.program.staged('.'), path));
    await this.call(
      [
        'backup',
        '--json',
        '--host',
        request.host,
        ...request.tags.flatMap((tag) => ['--tag', tag]),
        ...exclude.flatMap((path) => ['--exclude', escapeGlob(path)]),
        '--',
        ...Object.keys(request.folders),
      ],
      {
        folders: request.folders,
        okExits: request.live ? [0, incompleteExit] : [0],
        ...(request.signal && { signal: request.signal }),
        onLine: (line) => {
          const json = parseJson(line);
          const status = Status.safeParse(json);
          if (status.success) {
            const { bytes_done: done, total_bytes: total } = status.data;
            request.onProgress?.({ step: 'backup', done, total, unit: 'bytes' });
          }
          const last = RunSummary.safeParse(json);
          if (last.success) summary = last.data;
        },
      },
    );
    await this.unlockNowAndThen();
    if (!summary) throw BackupErrors.BACKUP_FAILED({ reason: 'restic gave no summary' });
    const { snapshot_id: id, total_duration: seconds } = summary;
    const [snapshot] = await this.snapshots([id]);
    if (!snapshot) throw BackupErrors.BACKUP_FAILED({ reason: 'the new backup is not listed' });
    return storedOf(snapshot, summary, () => seconds * 1000);
  }

  async list(filter: { host?: string; tag?: string }): Promise<StoredBackup[]> {
    const found = await this.snapshots([
      ...(filter.host === undefined ? [] : ['--host', filter.host]),
      ...(filter.tag === undefined ? [] : ['--tag', filter.tag]),
    ]);
    return found.map(({ summary, ...snapshot }) =>
      storedOf(
        snapshot,
        summary,
        () => Date.parse(summary?.backup_end ?? '') - Date.parse(summary?.backup_start ?? ''),
      ),
    );
  }

  protected restoreArgs(request: RestoreRequest): readonly string[] {
    const wanted = Object.keys(request.folders).map((name) => `/${name}`);
    const include = request.include === undefined ? wanted : [request.include];
    // restic takes includes or excludes, not both; what is left out is a handful of empty folders.
    const filters =
      request.include === undefined && request.exclude?.length
        ? request.exclude.flatMap((path) => ['--exclude', escapeGlob(path)])
        : include.flatMap((path) => ['--include', escapeGlob(path)]);
    return ['restore', request.id, '--target', this.program.staged('.'), ...filters];
  }

  private async snapshots(args: readonly string[]): Promise<z.infer<typeof ResticSnapshot>[]> {
    let text = '';
    await this.call(['snapshots', '--json', '--no-lock', ...args], {
      timeoutMs: quickMs,
      onLine: (line) => (text += line),
    });
    return z.array(ResticSnapshot).nullable().parse(parseJson(text)) ?? [];
  }

  protected call(args: readonly string[], options: RunOptions): Promise<number> {
    return this.program.run([...this.base(), ...args], {
      ...options,
      unlock: () => this.unlock(),
    });
  }

  /**
   * Locks of those that died with their host stay until somebody needs the repository alone; each
   * is read by everybody until then. After a backup, so that what cannot be written is not tried.
   */
  private async unlockNowAndThen(): Promise<void> {
    const now = performance.now();
    if (this.unlockedAt !== undefined && now - this.unlockedAt < unlockEveryMs) return;
    this.unlockedAt = now;
    await this.unlock();
  }

  /** Removes locks of processes that are dead, or that have not refreshed theirs for half an hour. */
  private async unlock(): Promise<void> {
    await this.exec.run([...this.base(), 'unlock'], this.quick()).catch(() => undefined);
  }

  private base(): string[] {
    const { repository, passwordFile, workFolder } = this.options;
    return [
      this.command,
      '--repo',
      repository,
      '--password-file',
      passwordFile,
      '--cache-dir',
      join(workFolder, 'cache'),
    ];
  }

  private quick(): { timeoutMs: number; env?: Readonly<Record<string, string>> } {
    return { timeoutMs: quickMs, ...(this.options.env && { env: this.options.env }) };
  }
}

/** restic matches with Go's path.Match, where a backslash takes the meaning from the next letter. */
function escapeGlob(path: string): string {
  return path.replace(/[\\*?[\]]/g, '\\$&');
}

import { join } from 'node:path';
import { z } from 'zod';
import type { BackupRequest, RestoreRequest, StoredBackup } from './backup.driver.js';
import {
  ProgramDriver,
  quickMs,
  SnapshotJson,
  storedOf,
  SummaryJson,
  type ProgramDriverOptions,
} from './program.driver.js';
import { parseJson, type RunOptions } from './repository-program.js';

const RusticSnapshot = SnapshotJson.extend({
  summary: SummaryJson.extend({ total_duration: z.number() }).nullish(),
});

/** A group is a pair before rustic 0.10, an object since. */
const SnapshotGroups = z.array(
  z.union([
    z.tuple([z.unknown(), z.array(RusticSnapshot)]).transform(([, snapshots]) => snapshots),
    z.object({ snapshots: z.array(RusticSnapshot) }).transform((group) => group.snapshots),
  ]),
);

export type RusticOptions = ProgramDriverOptions;

/** rustic 0.9 or newer: restic's repository format without locks. */
export class RusticDriver extends ProgramDriver {
  readonly name = 'rustic';
  protected readonly versionArg = '--version';

  protected readonly configArgs = ['cat', 'config'];

  protected async makeBackup(request: BackupRequest): Promise<StoredBackup> {
    const stored = await this.json(
      [
        'backup',
        '--json',
        '--host',
        request.host,
        ...request.tags.flatMap((tag) => ['--tag', tag]),
        // A glob is matched with the path as it was given, which begins in the stage.
        ...(request.exclude ?? []).flatMap((path) => ['--glob', `!${escapeGlob(path)}`]),
        ...Object.keys(request.folders),
      ],
      RusticSnapshot,
      {
        folders: request.folders,
        ...(request.signal && { signal: request.signal }),
      },
    );
    return toStored(stored);
  }

  async list(filter: { host?: string; tag?: string }): Promise<StoredBackup[]> {
    const groups = await this.json(['snapshots', '--json'], SnapshotGroups, { timeoutMs: quickMs });
    return groups
      .flat()
      .map(toStored)
      .filter(({ host }) => filter.host === undefined || host === filter.host)
      .filter(({ tags }) => filter.tag === undefined || tags.includes(filter.tag));
  }

  protected restoreArgs(request: RestoreRequest): readonly string[] {
    const roots =
      request.include === undefined
        ? Object.keys(request.folders).map((name) => `/${name}`)
        : [request.include];
    const globs = [
      ...roots.flatMap((path) => [escapeGlob(path), `${escapeGlob(path)}/**`]),
      ...(request.exclude ?? []).map((path) => `!${escapeGlob(path)}`),
    ];
    return [
      'restore',
      '--numeric-id',
      ...globs.flatMap((glob) => ['--glob', glob]),
      request.id,
      this.program.staged('.'),
    ];
  }

  private async json<T extends z.ZodType>(
    args: readonly string[],
    schema: T,
    options: RunOptions,
  ): Promise<z.output<T>> {
    let text = '';
    await this.call(args, { ...options, onLine: (line) => (text += `${line}\n`) });
    return schema.parse(parseJson(text));
  }

  protected call(args: readonly string[], options: RunOptions): Promise<number> {
    const { repository, passwordFile, workFolder } = this.options;
    const base = [
      this.command,
      '--no-progress',
      '--log-level',
      'warn',
      '--repository',
      repository,
      '--password-file',
      passwordFile,
      '--cache-dir',
      join(workFolder, 'rustic-cache'),
    ];
    return this.program.run([...base, ...args], options);
  }
}

const toStored = ({ summary, ...json }: z.infer<typeof RusticSnapshot>): StoredBackup =>
  storedOf(json, summary, () => (summary?.total_duration ?? 0) * 1000);

/** rustic's globs are gitignore's: a backslash takes the meaning from the next letter. */
function escapeGlob(path: string): string {
  return path.replace(/[\\*?[\]{}!]/g, '\\$&');
}

import { CodedError, type Exec, type ExecOptions, type SpawnedProcess } from '@rookery/core';
import { spaceErrorOf } from '../space.js';
import { StorageErrors } from '../storage.errors.js';

/** A subvolume command waits for a transaction; on a busy disk that is long. */
const commandTimeoutMs = 5 * 60_000;
const rescanTimeoutMs = 60 * 60_000;

/** The `btrfs` program's commands that we use, with its failures as coded errors. */
export class BtrfsProgram {
  constructor(
    private readonly exec: Exec,
    private readonly program: string,
    private readonly volume: string,
  ) {}

  /** `btrfs-progs v6.14` → [6, 14]. */
  async version(): Promise<readonly [number, number]> {
    const { stdout } = await this.exec.run([this.program, 'version']);
    const match = /v(\d+)\.(\d+)/.exec(stdout);
    return [Number(match?.[1] ?? 0), Number(match?.[2] ?? 0)];
  }

  /** The file system's UUID. */
  async uuid(): Promise<string> {
    const { stdout } = await this.exec.run([this.program, 'filesystem', 'show', this.volume]);
    const [, uuid] = /uuid: ([0-9a-f-]{36})/.exec(stdout) ?? [];
    if (uuid !== undefined) return uuid;
    throw StorageErrors.VOLUME_UNUSABLE({ volume: this.volume, reason: 'it tells no UUID' });
  }

  async createSubvolume(path: string, qgroup?: string): Promise<void> {
    await this.run(['subvolume', 'create', ...inherit(qgroup), path]);
  }

  async snapshot(
    from: string,
    to: string,
    options: { readOnly: boolean; qgroup?: string },
  ): Promise<void> {
    const flags = [...(options.readOnly ? ['-r'] : []), ...inherit(options.qgroup)];
    await this.run(['subvolume', 'snapshot', ...flags, from, to]);
  }

  async deleteSubvolumeById(treeId: number): Promise<void> {
    await this.run(['subvolume', 'delete', '--subvolid', String(treeId), this.volume]);
  }

  /** Also where a received UUID goes lost: the caller knows what it does. */
  async setReadOnly(path: string, readOnly: boolean): Promise<void> {
    const force = readOnly ? [] : ['-f'];
    await this.run(['property', 'set', ...force, '-t', 'subvol', path, 'ro', String(readOnly)]);
  }

  async enableQuota(simple: boolean): Promise<void> {
    await this.run(['quota', 'enable', ...(simple ? ['--simple'] : []), this.volume]);
  }

  async createQgroup(qgroup: string): Promise<void> {
    await this.run(['qgroup', 'create', qgroup, this.volume]);
  }

  async destroyQgroup(qgroup: string): Promise<void> {
    await this.run(['qgroup', 'destroy', qgroup, this.volume]);
  }

  async assignQgroup(member: string, group: string): Promise<void> {
    await this.run(['qgroup', 'assign', member, group, this.volume]);
  }

  async removeQgroup(member: string, group: string): Promise<void> {
    await this.run(['qgroup', 'remove', member, group, this.volume]);
  }

  async limitQgroup(qgroup: string, bytes: number | undefined): Promise<void> {
    await this.run([
      'qgroup',
      'limit',
      bytes === undefined ? 'none' : String(bytes),
      qgroup,
      this.volume,
    ]);
  }

  /** Counts anew; one that runs already is joined. */
  async rescanQuota(options: { wait: boolean }): Promise<void> {
    const wait = options.wait ? ['-w'] : [];
    await this.exec.run([this.program, 'quota', 'rescan', ...wait, this.volume], {
      timeoutMs: rescanTimeoutMs,
      // 1: under way.
      okExits: options.wait ? [0] : [0, 1],
    });
  }

  /** Commits, so that usage counts what was written. */
  async sync(): Promise<void> {
    await this.run(['filesystem', 'sync', this.volume]);
  }

  async resizeToMax(): Promise<void> {
    await this.run(['filesystem', 'resize', 'max', this.volume]);
  }

  send(
    path: string,
    options: { parent?: string; protocol: number; signal?: AbortSignal },
  ): SpawnedProcess {
    const compressed = options.protocol >= 2 ? ['--proto', '2', '--compressed-data'] : [];
    const parent = options.parent === undefined ? [] : ['-p', options.parent];
    return this.exec.spawn(
      [this.program, 'send', '--quiet', ...compressed, ...parent, path],
      options.signal && { signal: options.signal },
    );
  }

  /** A stream can name any path: the receiver is shut in the landing area. */
  receive(landing: string, signal: AbortSignal): SpawnedProcess {
    return this.exec.spawn([this.program, 'receive', '--quiet', '--chroot', '-e', landing], {
      signal,
    });
  }

  private async run(args: readonly string[], options: ExecOptions = {}): Promise<void> {
    try {
      await this.exec.run([this.program, ...args], { timeoutMs: commandTimeoutMs, ...options });
    } catch (error) {
      throw spaceError(error, this.volume) ?? error;
    }
  }
}

function inherit(qgroup: string | undefined): string[] {
  return qgroup === undefined ? [] : ['-i', qgroup];
}

/** DISK_FULL or QUOTA_EXCEEDED when that is what a command or call failed with. */
function spaceError(error: unknown, volume: string): CodedError | undefined {
  const text = CodedError.is(error, 'COMMAND_FAILED')
    ? String(error.details['stderr'])
    : String((error as NodeJS.ErrnoException).code ?? '');
  return spaceErrorOf(text, volume, error);
}

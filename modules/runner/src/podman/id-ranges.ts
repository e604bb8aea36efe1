import { mkdir, readdir, readFile, readlink, rm, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { IdClaims, idsPerProject } from '@rookery/core';
import type { ProjectId } from '@rookery/core/contract';
import { RunnerErrors } from '../runner.errors.js';
import type { IdRange } from './runner-id.js';

export interface IdRangesOptions {
  /** Holds one link a range that is taken: its name is the range's number, its target the project. */
  readonly folder: string;
  readonly firstId: number;
  readonly count: number;
  /** Where the hosts of one machine note their ranges. */
  readonly claimsDir: string;
  /** Files that say which ids the machine has given to others. For tests. */
  readonly machineFiles?: Partial<MachineFiles>;
}

interface MachineFiles {
  /** subuid(5): `name:first:count`. */
  readonly subordinate: readonly string[];
  /** passwd(5) and group(5): the id is the third field. */
  readonly accounts: readonly string[];
}

const machineDefaults: MachineFiles = {
  subordinate: ['/etc/subuid', '/etc/subgid'],
  accounts: ['/etc/passwd', '/etc/group'],
};

interface Span {
  readonly first: number;
  readonly last: number;
}

/**
 * Which ids of this host belong to which project. A range is a project's from its first start until
 * it is deleted or has left, also across restarts of the host, and never two projects' at once, nor
 * a project's of another host on the same machine ({@link IdClaims}).
 */
export class IdRanges {
  private readonly taken = new Map<ProjectId, number>();
  private machines: readonly Span[] = [];
  private readonly claims: IdClaims;

  constructor(private readonly options: IdRangesOptions) {
    this.claims = new IdClaims(options.claimsDir);
  }

  async open(): Promise<void> {
    const { folder } = this.options;
    await mkdir(folder, { recursive: true, mode: 0o700 });
    this.machines = await machineSpans({ ...machineDefaults, ...this.options.machineFiles });
    await this.readFolder();
    await this.claimAgain();
  }

  /** @throws ID_RANGES_FULL */
  async claim(projectId: ProjectId): Promise<IdRange> {
    const before = this.taken.get(projectId);
    if (before !== undefined) return this.rangeAt(before);
    return this.claims.exclusively(async (locked) => {
      const used = new Set(this.taken.values());
      for (let number = 0; number < this.options.count; number += 1) {
        if (used.has(number) || this.isMachines(number)) continue;
        const range = this.rangeAt(number);
        if (!(await locked.claim(range.firstId, this.noteOf(number)))) continue;
        if (await this.take(number, projectId)) return range;
      }
      throw RunnerErrors.ID_RANGES_FULL({ count: this.options.count });
    });
  }

  /** Not taken: nothing to do. */
  async release(projectId: ProjectId): Promise<void> {
    const number = this.taken.get(projectId);
    if (number === undefined) return;
    const note = this.noteOf(number);
    await this.claims.release(this.rangeAt(number).firstId, note);
    await rm(note, { force: true });
    this.taken.delete(projectId);
  }

  known(): readonly ProjectId[] {
    return [...this.taken.keys()];
  }

  private async take(number: number, projectId: ProjectId): Promise<boolean> {
    try {
      await symlink(projectId, this.noteOf(number));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
      return false;
    }
    this.taken.set(projectId, number);
    return true;
  }

  private async readFolder(): Promise<void> {
    const { folder } = this.options;
    this.taken.clear();
    for (const name of await readdir(folder)) {
      // A count that was lowered leaves ranges beyond it with whoever has them.
      if (/^\d+$/.test(name)) this.taken.set(await readlink(join(folder, name)), Number(name));
    }
  }

  /**
   * While this host's folder was away, its disk not mounted, another host may have taken a range:
   * the project gets a new one at its next start.
   */
  private async claimAgain(): Promise<void> {
    if (this.taken.size === 0) return;
    await this.claims.exclusively(async (locked) => {
      for (const [projectId, number] of this.taken) {
        const note = this.noteOf(number);
        if (await locked.claim(this.rangeAt(number).firstId, note)) continue;
        await rm(note, { force: true });
        this.taken.delete(projectId);
      }
    });
  }

  private noteOf(number: number): string {
    return join(this.options.folder, String(number));
  }

  private rangeAt(number: number): IdRange {
    return { firstId: this.options.firstId + number * idsPerProject };
  }

  private isMachines(number: number): boolean {
    const { firstId } = this.rangeAt(number);
    const lastId = firstId + idsPerProject - 1;
    return this.machines.some(({ first, last }) => first <= lastId && last >= firstId);
  }
}

/** Ids that the machine's users, or containers of other programs, have or may take. */
async function machineSpans(files: MachineFiles): Promise<Span[]> {
  const fieldsOf = async (path: string): Promise<string[][]> => {
    const text = await readFile(path, 'utf8').catch(() => '');
    return text.split('\n').map((line) => line.split(':'));
  };
  const spans: Span[] = [];
  for (const path of files.subordinate) {
    for (const [, first, count] of await fieldsOf(path)) {
      if (Number(count) > 0)
        spans.push({ first: Number(first), last: Number(first) + Number(count) - 1 });
    }
  }
  for (const path of files.accounts) {
    for (const [, , id] of await fieldsOf(path)) {
      if (id !== undefined && id !== '') spans.push({ first: Number(id), last: Number(id) });
    }
  }
  return spans;
}

import type { Logger } from '@rookery/core';
import type { MoveJournal } from '@rookery/move';
import type { ContainerControl } from '../projects/move-projects.js';
import type { ProjectRepository } from '../projects/project.repository.js';
import type { ProjectRow } from '../database/entities/project.entity.js';
import { HostErrors } from '../host.errors.js';

/** A project must be missing in this many replies in a row before it counts as a stray. */
const repliesUntilStray = 2;

/**
 * Compares what is here with what the hub says belongs here. A stray is stopped and reported; its
 * volume is kept: only a move's retirement or the hub's own order deletes anything.
 */
export class Ownership {
  private readonly missing = new Map<string, number>();
  private readonly lastOwned = new Map<string, number>();

  constructor(
    private readonly books: ProjectRepository,
    private readonly moves: MoveJournal,
    private readonly containers: ContainerControl,
    private readonly logger: Logger,
  ) {}

  /** What the hub said of reported projects that this host owns, with its generations. */
  get owned(): ReadonlyMap<string, number> {
    return this.lastOwned;
  }

  /**
   * @param reported what the hub was told of, and when: nothing else, and nothing that changed
   * later, is judged by the answer
   */
  async learn(
    reported: { readonly ids: readonly string[]; readonly at: number },
    owned: readonly { projectId: string; generation: number }[],
  ): Promise<void> {
    const generations = new Map(owned.map((each) => [each.projectId, each.generation]));
    const claimed = await this.claimed();
    for (const id of reported.ids) {
      const generation = generations.get(id);
      if (generation === undefined) this.lastOwned.delete(id);
      else this.lastOwned.set(id, generation);
      const row = await this.books.get(id);
      if (!row) {
        this.missing.delete(id);
        continue;
      }
      // Owned at a newer generation: a restore or a move towards us is about to replace the copy.
      if (generations.has(id) || claimed.has(id) || row.restoringBy !== null) {
        this.missing.delete(id);
        if (generations.get(id) === row.generation) await this.clear(row);
        continue;
      }
      if (row.updatedAt >= reported.at) continue;
      const times = (this.missing.get(id) ?? 0) + 1;
      this.missing.set(id, times);
      if (times >= repliesUntilStray) await this.stopStray(row);
    }
  }

  /** Projects that a move still speaks for, on either side. */
  private async claimed(): Promise<Set<string>> {
    const outgoing = await this.moves.listOutgoing();
    const incoming = await this.moves.listIncoming();
    return new Set([
      ...outgoing
        .filter(({ state }) => state !== 'undone' && state !== 'retired')
        .map(({ projectId }) => projectId),
      ...incoming
        .filter(({ state }) => state === 'activating' || state === 'authorized')
        .map(({ projectId }) => projectId),
    ]);
  }

  private async stopStray(row: ProjectRow): Promise<void> {
    const { projectId } = row;
    if (row.desiredState === 'stopped' && row.error?.code === 'PROJECT_NOT_OWNED') return;
    this.logger.warn({ projectId, generation: row.generation }, 'a project does not belong here');
    const error = HostErrors.PROJECT_NOT_OWNED({ projectId }).toJSON();
    const mark = () =>
      this.books.change(projectId, (current, save) => {
        if (current) save({ desiredState: 'stopped', error });
      });
    await mark();
    await this.containers.stop(projectId);
    // A stop that succeeds says that nothing is wrong.
    await mark();
  }

  private async clear(row: ProjectRow): Promise<void> {
    if (row.error?.code !== 'PROJECT_NOT_OWNED') return;
    await this.books.change(row.projectId, (current, save) => {
      if (current) save({ error: null });
    });
  }
}

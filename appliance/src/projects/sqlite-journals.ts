import { BackupJournal, type BackupJob } from '@rookery/backup';
import type { MoveId, ProjectId } from '@rookery/core/contract';
import { IncomingMove, incomingEnds, MoveJournal, OutgoingMove, outgoingEnds } from '@rookery/move';
import {
  BackupRepositoryRow,
  IncomingMoveRow,
  JobRow,
  OutgoingMoveRow,
} from '../database/entities/work.entity.js';
import type { HostDatabase } from '../database/host-database.js';
import { knownIn } from './attempt-rows.js';

/** Backup and restore jobs in the host's database. */
export class SqliteBackupJournal extends BackupJournal {
  constructor(private readonly database: HostDatabase) {
    super();
  }

  async get(operationId: string): Promise<BackupJob | undefined> {
    const row = this.database.findOne(JobRow, { operationId });
    return row?.document;
  }

  async put(job: BackupJob): Promise<void> {
    const { operationId, projectId } = job.fence;
    const isOver = job.state === 'succeeded' || job.state === 'failed';
    const endedAt = isOver ? (job.endedAt ?? job.startedAt) : null;
    const row = { operationId, projectId, state: job.state, endedAt, document: job };
    this.database.write((rows) => rows.put(JobRow, row));
  }

  async repositoryId(): Promise<string | undefined> {
    return this.database.findOne(BackupRepositoryRow, { id: 1 })?.repositoryId;
  }

  async rememberRepository(repositoryId: string): Promise<void> {
    this.database.write((rows) => rows.put(BackupRepositoryRow, { id: 1, repositoryId }));
  }

  async active(): Promise<BackupJob[]> {
    const rows = this.database.find(JobRow, { state: ['pending', 'running'] });
    return rows.map(({ document }) => document);
  }
}

/** Moves in the host's database. The ingress process reads the same rows. */
export class SqliteMoveJournal extends MoveJournal {
  constructor(
    private readonly database: HostDatabase,
    /** Called after a row was saved: the ingress may have to know. */
    private readonly onSaved: () => void = () => undefined,
  ) {
    super();
  }

  async outgoing(moveId: MoveId): Promise<OutgoingMove | undefined> {
    const row = this.database.findOne(OutgoingMoveRow, { moveId });
    return row ? OutgoingMove.parse(row.document) : undefined;
  }

  async listOutgoing(): Promise<OutgoingMove[]> {
    const rows = this.database.find(OutgoingMoveRow);
    return rows.map(({ document }) => OutgoingMove.parse(document));
  }

  async saveOutgoing(move: OutgoingMove): Promise<void> {
    const { moveId, state, updatedAt } = move;
    const endedAt = isOneOf(outgoingEnds, state) ? updatedAt : null;
    const row = { moveId, state, endedAt, document: move };
    this.database.write((rows) => rows.put(OutgoingMoveRow, row));
    this.onSaved();
  }

  async incoming(moveId: MoveId): Promise<IncomingMove | undefined> {
    const row = this.database.findOne(IncomingMoveRow, { moveId });
    return row ? IncomingMove.parse(row.document) : undefined;
  }

  async listIncoming(): Promise<IncomingMove[]> {
    const rows = this.database.find(IncomingMoveRow);
    return rows.map(({ document }) => IncomingMove.parse(document));
  }

  async saveIncoming(move: IncomingMove): Promise<void> {
    const { moveId, state, updatedAt } = move;
    const endedAt = isOneOf(incomingEnds, state) ? updatedAt : null;
    const row = { moveId, state, endedAt, document: move };
    this.database.write((rows) => rows.put(IncomingMoveRow, row));
    this.onSaved();
  }

  async forgottenClaim(projectId: ProjectId): Promise<number> {
    return knownIn(this.database, projectId).forgottenClaim;
  }
}

const isOneOf = (some: readonly string[], one: string): boolean => some.includes(one);

import { BackupJournal, type BackupJob } from '@rookery/backup';
import type { MoveId } from '@rookery/core/contract';
import { IncomingMove, MoveJournal, OutgoingMove } from '@rookery/move';
import {
  BackupRepositoryRow,
  IncomingMoveRow,
  JobRow,
  OutgoingMoveRow,
} from '../database/entities/work.entity.js';
import type { HostDatabase } from '../database/host-database.js';

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
    const row = { operationId, projectId, state: job.state, document: job };
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
    const row = { moveId: move.moveId, state: move.state, document: move };
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
    const row = { moveId: move.moveId, state: move.state, document: move };
    this.database.write((rows) => rows.put(IncomingMoveRow, row));
    this.onSaved();
  }
}

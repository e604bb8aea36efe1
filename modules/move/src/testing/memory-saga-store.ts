import type { Progress } from '@rookery/core/contract';
import { LeaseGuard, SagaStore, type SagaRecord } from '../saga/saga.ports.js';
import { SagaErrors } from '../saga/saga.errors.js';

interface Row {
  record: SagaRecord;
  attempt: number;
  cancelRequested: boolean;
}

/** Records in memory, with the same refusals as a real store. Copies in and out, as JSON. */
export class MemorySagaStore extends SagaStore {
  private readonly rows = new Map<string, Row>();
  readonly progress: Progress[] = [];

  create(record: SagaRecord): void {
    this.rows.set(record.operationId, {
      record: copy(record),
      attempt: record.attempt,
      cancelRequested: false,
    });
  }

  /** Claims an operation: whoever had it before has lost it. */
  claim(operationId: string, leaseMs = 60_000): LeaseGuard {
    const row = this.row(operationId);
    row.attempt += 1;
    return new MemoryLease(operationId, row.attempt, leaseMs, () => row);
  }

  async load(operationId: string): Promise<SagaRecord | undefined> {
    const row = this.rows.get(operationId);
    return row && copy(row.record);
  }

  async save(record: SagaRecord): Promise<{ cancelRequested: boolean }> {
    const row = this.row(record.operationId);
    if (row.attempt !== record.attempt) {
      throw SagaErrors.LEASE_LOST({ operationId: record.operationId });
    }
    row.record = copy(record);
    return { cancelRequested: row.cancelRequested };
  }

  async saveProgress(operationId: string, attempt: number, progress: Progress): Promise<void> {
    if (this.row(operationId).attempt === attempt) this.progress.push(progress);
  }

  async requestCancel(operationId: string): Promise<void> {
    const row = this.row(operationId);
    const { record } = row;
    const ended = record.status !== 'running' && record.status !== 'stuck';
    if (!record.cancelable || ended) throw SagaErrors.CANCEL_TOO_LATE({ operationId });
    row.cancelRequested = true;
  }

  private row(operationId: string): Row {
    const row = this.rows.get(operationId);
    if (!row) throw SagaErrors.OPERATION_UNKNOWN({ operationId });
    return row;
  }
}

class MemoryLease extends LeaseGuard {
  constructor(
    readonly operationId: string,
    readonly attempt: number,
    readonly leaseMs: number,
    private readonly row: () => Row,
  ) {
    super();
  }

  async renew(): Promise<{ cancelRequested: boolean }> {
    const row = this.row();
    if (row.attempt !== this.attempt) {
      throw SagaErrors.LEASE_LOST({ operationId: this.operationId });
    }
    return { cancelRequested: row.cancelRequested };
  }
}

function copy(record: SagaRecord): SagaRecord {
  return JSON.parse(JSON.stringify(record)) as SagaRecord;
}

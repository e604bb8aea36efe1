import { setImmediate } from 'node:timers/promises';
import { endedMovesMax, type hostReports } from '@rookery/fleet/contract';
import { CodedError, type Clock, type Logger } from '@rookery/core';
import type { MoveId, OperationId, ProjectId } from '@rookery/core/contract';
import type { ServiceClient } from '@rookery/rpc/contract';
import { forgetOperation } from '@rookery/runner';
import { IncomingMoveRow, JobRow, OutgoingMoveRow } from '../database/entities/work.entity.js';
import type { HostDatabase, WritableRows } from '../database/host-database.js';
import { knownIn, noteAttempts } from './attempt-rows.js';

/** Deleted in one transaction: others write in between. */
const rowsAtOnce = 100;
/** A move that ended just now is left alone: what is still on its way finds its row. */
const settleAfterMs = 10 * 60_000;
/** Ended moves of one direction that nobody has acknowledged; the oldest go first. */
const unsettledMax = 5000;

type Reports = Pick<ServiceClient<typeof hostReports>, 'endedMoves'>;

export interface EndedWorkDependencies {
  readonly database: HostDatabase;
  readonly clock: Clock;
  /** Jobs that ended before are forgotten, and moves of which the hub never said anything. */
  readonly keepMs: number;
  readonly logger: Logger;
}

interface Over {
  readonly moveId: MoveId;
  /** The newest that the hub gave out for it. */
  readonly claim?: number | undefined;
}

/**
 * Forgets moves and jobs that are over.
 *
 * A move's row answers the hub when it asks again. It goes when the hub has said that it will not: the
 * operation has ended there, whatever the hosts answered to it, and owes this host nothing. What comes
 * of it all the same (a call that was long on its way, a worker that lost its lease) carries a claim
 * up to the one that is written down with the removal, in one transaction, and is refused by it.
 */
export class EndedWork {
  private reports: Reports | undefined;

  constructor(private readonly parts: EndedWorkDependencies) {}

  /** The line to ask on. */
  attach(reports: Reports): void {
    this.reports = reports;
  }

  /** For a timer; what the hub cannot say now, it is asked the next time. */
  async run(signal: AbortSignal): Promise<void> {
    for (const table of [OutgoingMoveRow, IncomingMoveRow] as const) {
      await this.forgetSettled(table, signal);
      await this.forgetMany(table, signal);
    }
    await this.forgetOld(signal);
  }

  private async forgetSettled(table: MoveTable, signal: AbortSignal): Promise<void> {
    const { database, clock, logger } = this.parts;
    const below = clock.now() - settleAfterMs;
    for (let from: number | undefined; !signal.aborted;) {
      const span = { by: 'endedAt', from, below, limit: endedMovesMax } as const;
      const ended = database.findSpan<MoveRow>(table, span);
      const { reports } = this;
      if (ended.length === 0 || !reports) return;
      try {
        const moveIds = ended.map(({ moveId }) => moveId);
        const { over } = await reports.endedMoves({ moveIds }, { signal });
        await this.forgetMoves(table, over);
      } catch (error) {
        // A hub that is away, or of an earlier release: time and number bound them all the same.
        if (!CodedError.is(error)) throw error;
        logger.debug({ err: error }, 'the hub did not say which moves are over');
        return;
      }
      if (ended.length < span.limit) return;
      // Those of the same millisecond that did not fit are asked for the next time.
      from = (ended.at(-1)?.endedAt ?? 0) + 1;
    }
  }

  /** The newest stay. */
  private async forgetMany(table: MoveTable, signal: AbortSignal): Promise<void> {
    const span = { by: 'endedAt', highestFirst: true, skip: unsettledMax, limit: rowsAtOnce };
    await this.forgetWhile(signal, () => {
      const found = this.parts.database.findSpan<MoveRow>(table, span as never);
      return { found: found.length, forget: () => this.forgetMoves(table, found) };
    });
  }

  private async forgetOld(signal: AbortSignal): Promise<void> {
    const { database, clock, keepMs } = this.parts;
    const below = clock.now() - keepMs;
    const span = { by: 'endedAt', below, limit: rowsAtOnce } as const;
    for (const table of [OutgoingMoveRow, IncomingMoveRow] as const) {
      await this.forgetWhile(signal, () => {
        const found = database.findSpan<MoveRow>(table, span);
        return { found: found.length, forget: () => this.forgetMoves(table, found) };
      });
    }
    await this.forgetWhile(signal, () => {
      const found = database.findSpan(JobRow, span);
      return { found: found.length, forget: async () => this.forgetJobs(found) };
    });
  }

  private async forgetWhile(
    signal: AbortSignal,
    next: () => { readonly found: number; readonly forget: () => Promise<void> },
  ): Promise<void> {
    while (!signal.aborted) {
      const { found, forget } = next();
      if (found > 0) await forget();
      if (found < rowsAtOnce) return;
    }
  }

  private async forgetMoves(table: MoveTable, moves: readonly Over[]): Promise<void> {
    for (let at = 0; at < moves.length; at += rowsAtOnce) {
      const some = moves.slice(at, at + rowsAtOnce);
      this.parts.database.write((rows) => {
        for (const { moveId, claim = 0 } of some) {
          const row = rows.findOne<MoveRow>(table, { moveId });
          // A late call may have opened it again, which cannot be, and would then count.
          if (!row || row.endedAt === null) continue;
          // An earlier release wrote no claim.
          const { projectId, claim: heard = 0 }: Partial<Move> & Pick<Move, 'projectId'> =
            row.document;
          this.bar(rows, projectId, { claim: Math.max(claim, heard) });
          rows.delete<MoveRow>(table, { moveId });
        }
      });
      await setImmediate();
    }
  }

  private forgetJobs(jobs: readonly JobRow[]): void {
    this.parts.database.write((rows) => {
      for (const { operationId } of jobs) {
        const row = rows.findOne(JobRow, { operationId });
        if (!row || row.endedAt === null) continue;
        const { projectId, claim = 0 } = row.document.fence;
        this.bar(rows, projectId, { operationId, claim });
        rows.delete(JobRow, { operationId });
      }
    });
  }

  private bar(
    rows: WritableRows,
    projectId: ProjectId,
    over: { readonly operationId?: OperationId; readonly claim: number },
  ): void {
    const known = knownIn(rows, projectId);
    const next = forgetOperation(known, over);
    const isSame =
      next.forgottenClaim === known.forgottenClaim &&
      next.operations.length === known.operations.length;
    if (!isSame) noteAttempts(rows, projectId, next, this.parts.clock.now());
  }
}

type MoveTable = typeof OutgoingMoveRow | typeof IncomingMoveRow;
type MoveRow = OutgoingMoveRow | IncomingMoveRow;
type Move = MoveRow['document'];

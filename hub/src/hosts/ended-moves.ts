import { Injectable } from '@nestjs/common';
import { identityNames, type hostReports } from '@rookery/fleet/contract';
import type { Handlers } from '@rookery/rpc/contract';
import { DataSource } from 'typeorm';
import { refuseOthers } from './refuse-others.js';

/** Tells hosts which of their moves they may forget. */
@Injectable()
export class EndedMoves {
  readonly reports: Pick<Handlers<typeof hostReports>, 'endedMoves'> = {
    endedMoves: async ({ moveIds }, context) => {
      const hostId = context.params['hostId'] ?? '';
      refuseOthers(context, identityNames.host(hostId), hostId);
      return { over: await this.over(hostId, moveIds) };
    },
  };

  constructor(private readonly dataSource: DataSource) {}

  /**
   * No worker can begin anything for an operation that has ended, and it ends in one transaction with
   * what it owes to hosts. A move that is not known was forgotten by retention, long after that.
   */
  private async over(hostId: string, moveIds: readonly string[]) {
    const rows = await this.dataSource.query<{ id: string; claim: number | null }[]>(
      `SELECT asked.id, o.claim::float8 AS claim FROM unnest($2::uuid[]) AS asked (id)
       LEFT JOIN project_moves m ON m.id = asked.id
       LEFT JOIN operations o ON o.id = m.operation_id
       WHERE (m.id IS NULL OR o.ended_at IS NOT NULL) AND NOT EXISTS (
         SELECT 1 FROM host_debts d WHERE d.move_id = asked.id AND d.host_id = $1)`,
      [hostId, moveIds],
    );
    return rows.map(({ id: moveId, claim }) => (claim === null ? { moveId } : { moveId, claim }));
  }
}

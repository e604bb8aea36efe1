import { MoveDebts, type MoveDebt } from '../move-debts.js';

/** Debts in memory, to be looked at and paid. */
export class MemoryMoveDebts extends MoveDebts {
  readonly debts: MoveDebt[] = [];

  async owe(debt: MoveDebt): Promise<void> {
    const same = (each: MoveDebt): boolean =>
      each.kind === debt.kind && each.moveId === debt.moveId;
    if (!this.debts.some(same)) this.debts.push(debt);
  }
}

/** What tests turn and operators do not. */
export interface HubTuning {
  /** A dead worker's operation is taken over after this. */
  readonly leaseMs: number;
  /** Operations that one process runs side by side. */
  readonly operationsMax: number;
  /** Parse what API handlers return, too. */
  readonly checkResponses: boolean;
  /** False: the embedded Postgres does not fsync. */
  readonly durableDatabase: boolean;
  /** Without news from Postgres for so long, this process checks all access anew. */
  readonly accessStaleMs: number;
  /** About this often the index of backups is compared with each repository. */
  readonly backupSweepMs: number;
  /** So often hosts that are back are told what ended moves owe them. */
  readonly debtsMs: number;
  /** A request's headers must have come within this. */
  readonly headersMs: number;
  /** And its body, where it is for the hub itself. */
  readonly bodyMs: number;
}

export const defaultTuning: HubTuning = {
  leaseMs: 15_000,
  operationsMax: 64,
  checkResponses: false,
  durableDatabase: true,
  accessStaleMs: 60_000,
  backupSweepMs: 15 * 60_000,
  debtsMs: 2000,
  headersMs: 15_000,
  bodyMs: 30_000,
};

export const HUB_TUNING = Symbol('HUB_TUNING');
export const HUB_LOGGER = Symbol('HUB_LOGGER');

/** What tests turn and operators do not. */
export interface HubTuning {
  /** A dead worker's operation is taken over after this. */
  readonly leaseMs: number;
  /** Parse what API handlers return, too. */
  readonly checkResponses: boolean;
  /** False: the embedded Postgres does not fsync. */
  readonly durableDatabase: boolean;
}

export const defaultTuning: HubTuning = {
  leaseMs: 15_000,
  checkResponses: false,
  durableDatabase: true,
};

export const HUB_TUNING = Symbol('HUB_TUNING');
export const HUB_LOGGER = Symbol('HUB_LOGGER');

/** What one part of the suite came to. */
export interface Tally {
  passed: number;
  failed: number;
  skipped: number;
}

export const levels = ['unit', 'integration', 'e2e', 'bare'] as const;
export type Level = (typeof levels)[number];

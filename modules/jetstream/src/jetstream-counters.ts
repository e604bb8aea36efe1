import type { EngineInput } from './engine/engine-io.js';
import { noCounts, type RunnerCounts } from './workers/runner.js';

/** What a JetStream did since it started. */
export class JetStreamCounters {
  readonly inputs: Record<EngineInput['kind'], number> = {
    api: 0,
    publish: 0,
    ack: 0,
    'flow-control': 0,
    interest: 0,
  };
  refused = 0;
  quarantined = 0;
  readonly commits: RunnerCounts = noCounts();
  openAccounts = 0;

  get requests(): number {
    return this.inputs.api;
  }

  input(input: EngineInput): void {
    this.inputs[input.kind] += 1;
  }

  report(counts: RunnerCounts): void {
    const { commits } = this;
    commits.commits += counts.commits;
    commits.committedInputs += counts.committedInputs;
    commits.commitMsSum += counts.commitMsSum;
    counts.commitMs.forEach((count, i) => (commits.commitMs[i]! += count));
    this.refused += counts.refused;
    this.openAccounts += counts.opened;
  }
}

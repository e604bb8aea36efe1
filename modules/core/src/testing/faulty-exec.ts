import {
  Exec,
  SystemExec,
  type ExecOptions,
  type ExecResult,
  type SpawnedProcess,
  type SpawnOptions,
} from '../exec.js';

export interface ExecFault {
  /** Which commands fail. */
  readonly matches: (argv: readonly string[]) => boolean;
  /** `before`: the command never runs. `after`: it runs and its answer is lost. */
  readonly when: 'before' | 'after';
  readonly error: Error;
}

/** Real commands with faults at chosen places; one fault fires once. */
export class FaultyExec extends Exec {
  private readonly faults: ExecFault[] = [];
  private readonly acts: { matches: ExecFault['matches']; act: () => Promise<void> }[] = [];

  constructor(private readonly inner: Exec = new SystemExec()) {
    super();
  }

  inject(fault: ExecFault): void {
    this.faults.push(fault);
  }

  /** Does something before the next such command, once. */
  before(matches: ExecFault['matches'], act: () => Promise<void>): void {
    this.acts.push({ matches, act });
  }

  async run(argv: readonly string[], options?: ExecOptions): Promise<ExecResult> {
    const due = this.acts.findIndex(({ matches }) => matches(argv));
    if (due >= 0) await this.acts.splice(due, 1)[0]!.act();
    const index = this.faults.findIndex((fault) => fault.matches(argv));
    const [fault] = index >= 0 ? this.faults.splice(index, 1) : [];
    if (fault?.when === 'before') throw fault.error;
    const result = await this.inner.run(argv, options);
    if (fault) throw fault.error;
    return result;
  }

  spawn(argv: readonly string[], options?: SpawnOptions): SpawnedProcess {
    return this.inner.spawn(argv, options);
  }
}

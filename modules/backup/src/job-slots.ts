import { abortedBy } from '@rookery/core';

/** A turn among the jobs that run at once. */
export interface JobSlot {
  /**
   * Lets the next one in although this job goes on, unless as many already run beside the others.
   * A job that takes long must not keep all others waiting.
   */
  handOn(): void;
  /** The job has ended. */
  release(): void;
}

/** At most so many jobs run at once, and as many again that have taken long; others wait in line. */
export class JobSlots {
  private readonly waiting: (() => void)[] = [];
  private free: number;
  private besides = 0;

  constructor(private readonly countMax: number) {
    this.free = countMax;
  }

  /** @throws what the signal was aborted with */
  async take(signal: AbortSignal): Promise<JobSlot> {
    if (signal.aborted) throw abortedBy(signal);
    if (this.free > 0) this.free -= 1;
    else await this.turn(signal);
    let handedOn = false;
    return {
      handOn: () => {
        if (handedOn || this.besides >= this.countMax) return;
        handedOn = true;
        this.besides += 1;
        this.give();
      },
      release: () => {
        if (handedOn) this.besides -= 1;
        else this.give();
      },
    };
  }

  private async turn(signal: AbortSignal): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      const onAbort = (): void => {
        this.waiting.splice(this.waiting.indexOf(turn), 1);
        reject(abortedBy(signal));
      };
      const turn = (): void => {
        signal.removeEventListener('abort', onAbort);
        resolve();
      };
      this.waiting.push(turn);
      signal.addEventListener('abort', onAbort, { once: true });
    });
  }

  /** The slot goes on to whoever waits longest. */
  private give(): void {
    const next = this.waiting.shift();
    if (next) next();
    else this.free += 1;
  }
}

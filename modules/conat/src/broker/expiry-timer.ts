/** Timers run no longer. */
const timerMsMax = 2 ** 31 - 1;

/** Calls once when a time has come, however far off it is. */
export class ExpiryTimer {
  private timer: NodeJS.Timeout | null = null;

  constructor(private readonly expired: () => void) {}

  /** Forgets the time before. @param at milliseconds since the epoch; undefined for never */
  set(at: number | undefined): void {
    this.clear();
    if (at === undefined) return;
    this.timer = setTimeout(
      () => {
        if (Date.now() < at) this.set(at);
        else this.expired();
      },
      Math.min(Math.max(0, at - Date.now()), timerMsMax),
    ).unref();
  }

  clear(): void {
    if (this.timer) clearTimeout(this.timer);
    this.timer = null;
  }
}

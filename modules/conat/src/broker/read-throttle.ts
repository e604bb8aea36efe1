import type { Transport } from './ports.js';

interface Paused {
  pause(): void;
  resume(): void;
}

/**
 * Reads a client more slowly, or not at all for a while: because of its own rates, or because the
 * fabric takes too little. Nothing is dropped, the other side has to wait.
 */
export class ReadThrottle {
  private throttle: NodeJS.Timeout | null = null;
  private held = false;
  private ended = false;

  constructor(
    private readonly transport: Transport,
    private readonly parser: Paused,
  ) {}

  get isOn(): boolean {
    return this.throttle !== null || this.held;
  }

  pauseFor(pauseMs: number): void {
    if (this.throttle || this.ended) return;
    this.stop();
    this.throttle = setTimeout(() => {
      this.throttle = null;
      this.goOn();
    }, pauseMs);
  }

  /** Until {@link release}. */
  hold(): void {
    if (this.held || this.ended) return;
    this.held = true;
    this.stop();
  }

  release(): void {
    if (!this.held) return;
    this.held = false;
    this.goOn();
  }

  /** For a client that is cut: its end is only seen by who reads. */
  end(): void {
    this.ended = true;
    if (!this.isOn) return;
    if (this.throttle) clearTimeout(this.throttle);
    this.throttle = null;
    this.held = false;
    this.transport.resume();
  }

  private stop(): void {
    this.parser.pause();
    this.transport.pause();
  }

  private goOn(): void {
    if (this.isOn) return;
    this.transport.resume();
    this.parser.resume();
  }
}

/**
 * How long the other side has said nothing, counted in our own beats. A clock would blame the other
 * side when it is we who stood still: a timer that comes late runs before the messages that wait in
 * the socket are read.
 */
export class Silence {
  private beats = 0;

  constructor(private readonly beatMs: number) {}

  heard(): void {
    this.beats = 0;
  }

  /** @returns for how many milliseconds nothing came, at the least */
  beat(): number {
    this.beats += 1;
    return (this.beats - 1) * this.beatMs;
  }
}

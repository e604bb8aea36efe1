import { Outbox, type OutgoingMessage } from '../engine/engine-io.js';
import type { RunnerOutput } from './runner.js';

type Said =
  | { readonly kind: 'send'; readonly message: OutgoingMessage }
  | { readonly kind: 'listen'; readonly stream: string; readonly subjects: readonly string[] }
  | { readonly kind: 'watch' | 'unwatch'; readonly subject: string };

/** Keeps what an engine says until it is on disk. */
export class BufferedOutbox extends Outbox {
  private held: Said[] = [];

  constructor(
    private readonly account: number,
    private readonly output: RunnerOutput,
  ) {
    super();
  }

  send(message: OutgoingMessage): void {
    this.held.push({ kind: 'send', message });
  }

  listen(stream: string, subjects: readonly string[]): void {
    this.held.push({ kind: 'listen', stream, subjects });
  }

  watch(subject: string): void {
    this.held.push({ kind: 'watch', subject });
  }

  unwatch(subject: string): void {
    this.held.push({ kind: 'unwatch', subject });
  }

  /** The transaction failed: nothing of it was ever said. */
  discard(): void {
    this.held = [];
  }

  release(): void {
    const { held, account, output } = this;
    if (held.length === 0) return;
    this.held = [];
    for (const said of held) {
      if (said.kind === 'send') output.send(account, said.message);
      else if (said.kind === 'listen') output.listen(account, said.stream, said.subjects);
      else output[said.kind](account, said.subject);
    }
  }
}

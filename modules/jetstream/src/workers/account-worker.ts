import {
  isMainThread,
  parentPort,
  receiveMessageOnPort,
  workerData,
  type MessagePort,
} from 'node:worker_threads';
import { SystemClock } from '@rookery/core';
import { AccountRuntime } from './account-runtime.js';
import { readInput, writeListen, writeSend, writeWatch } from './messages.js';
import type { RunnerOutput } from './runner.js';
import type { FromThread, ThreadData, ToThread } from './thread-protocol.js';
import { WireReader, WireWriter } from './wire.js';

/** The largest buffer that goes out at once; more follows in the next. */
const outputBytesAtOnce = 4 * 1024 * 1024;
/** How long it works before timers have their turn. */
const turnMsMax = 20;

/** What runs in a thread: unpacks inputs, works, packs what is said. */
class Thread implements RunnerOutput {
  private readonly wire = new WireWriter();
  private readonly runtime: AccountRuntime;
  private readonly outputBytesMax: number;
  private outputBytes = 0;
  /** Bytes of inputs whose credit is given back when they were worked on. */
  private inputBytes = 0;
  private scheduled = false;

  constructor(
    private readonly port: MessagePort,
    { options }: ThreadData,
  ) {
    this.outputBytesMax = options.limits.outputBytesMax;
    this.runtime = new AccountRuntime(this, new SystemClock(), options);
  }

  /**
   * Works until there is nothing left. Between two batches it looks for more, so that what came
   * during a commit shares the next.
   */
  run(first?: ToThread): void {
    // What is said from here on goes out at the end of each round.
    this.scheduled = true;
    const more = (!first || this.receive(first)) && this.rounds();
    this.scheduled = false;
    if (more) this.schedule();
  }

  /** @returns whether there is more to do after the event loop had its turn */
  private rounds(): boolean {
    const endMs = performance.now() + turnMsMax;
    for (;;) {
      for (let next = this.next(); next; next = this.next()) if (!this.receive(next)) return false;
      // Credit brings it back.
      const held = this.outputBytes > this.outputBytesMax;
      const more = !held && this.runtime.workOnce();
      this.flush(!held && !more);
      if (!more || performance.now() > endMs) return more;
    }
  }

  private next(): ToThread | undefined {
    return receiveMessageOnPort(this.port)?.message as ToThread | undefined;
  }

  private schedule(): void {
    if (this.scheduled) return;
    this.scheduled = true;
    setImmediate(() => this.run());
  }

  /** @returns false when it was the last */
  private receive(message: ToThread): boolean {
    if (message instanceof ArrayBuffer) {
      const wire = new WireReader(message);
      while (!wire.ended) {
        const { account, input } = readInput(wire);
        this.runtime.input(account, input);
      }
      this.inputBytes += wire.length;
      this.outputBytes -= wire.credit;
      return true;
    }
    if (message.kind === 'command') {
      this.runtime.command(message.command, message.account, message.what);
      return true;
    }
    this.runtime.close();
    this.flush();
    this.port.postMessage({ kind: 'closed' } satisfies FromThread);
    return false;
  }

  /** @param worked everything that came in was worked on */
  private flush(worked = false): void {
    const credit = worked ? this.inputBytes : 0;
    if (this.wire.length === 0 && credit === 0) return;
    this.outputBytes += this.wire.length;
    this.port.postMessage(...this.wire.take(credit));
    this.inputBytes -= credit;
  }

  /** What is said outside of a turn (timers) goes out at its end, too. */
  private said(): void {
    if (this.wire.length >= outputBytesAtOnce) this.flush();
    else this.schedule();
  }

  send(account: number, message: Parameters<RunnerOutput['send']>[1]): void {
    writeSend(this.wire, account, message);
    this.said();
  }

  listen(account: number, stream: string, subjects: readonly string[]): void {
    writeListen(this.wire, account, stream, subjects);
    this.said();
  }

  watch(account: number, subject: string): void {
    writeWatch(this.wire, account, subject, 'watch');
    this.said();
  }

  unwatch(account: number, subject: string): void {
    writeWatch(this.wire, account, subject, 'unwatch');
    this.said();
  }

  done(...[command, result]: Parameters<RunnerOutput['done']>): void {
    this.event({ kind: 'done', command, result });
  }

  quarantined(account: number, asideFile: string, reason: string): void {
    this.event({ kind: 'quarantined', account, asideFile, reason });
  }

  problem(account: number, error: string): void {
    this.event({ kind: 'problem', account, error });
  }

  report(...[counts]: Parameters<RunnerOutput['report']>): void {
    this.event({ kind: 'report', counts });
  }

  private event(event: FromThread): void {
    this.flush();
    this.port.postMessage(event);
  }
}

if (!isMainThread && parentPort) {
  const thread = new Thread(parentPort, workerData as ThreadData);
  parentPort.on('message', (message: ToThread) => thread.run(message));
}

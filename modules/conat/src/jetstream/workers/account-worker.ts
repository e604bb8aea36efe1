import { isMainThread, parentPort, workerData } from 'node:worker_threads';
import { SystemClock } from '@rookery/core';
import { AccountRuntime } from './account-runtime.js';
import { readInput, writeListen, writeSend, writeWatch } from './messages.js';
import type { RunnerOutput } from './runner.js';
import type { FromThread, ThreadData, ToThread } from './thread-protocol.js';
import { WireReader, WireWriter } from './wire.js';

/** The largest buffer that goes out at once; more follows in the next. */
const outputBytesAtOnce = 4 * 1024 * 1024;

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
    private readonly post: (message: FromThread, transfer?: ArrayBuffer[]) => void,
    { options }: ThreadData,
  ) {
    this.outputBytesMax = options.limits.outputBytesMax;
    this.runtime = new AccountRuntime(this, new SystemClock(), options);
  }

  receive(message: ToThread): void {
    switch (message.kind) {
      case 'inputs': {
        const wire = new WireReader(message.packed.buffer, message.packed.length);
        while (!wire.ended) {
          const { account, input } = readInput(wire);
          this.runtime.input(account, input);
        }
        this.inputBytes += message.packed.length;
        return this.schedule();
      }
      case 'command':
        return this.runtime.command(message.command, message.account, message.what);
      case 'credit':
        this.outputBytes -= message.bytes;
        return this.schedule();
      case 'close':
        this.runtime.close();
        this.flush();
        return this.post({ kind: 'closed' });
    }
  }

  /** The loop's turn ends between two batches, so that more inputs join the next one. */
  private schedule(): void {
    if (this.scheduled) return;
    this.scheduled = true;
    setImmediate(() => {
      this.scheduled = false;
      // Credit brings it back.
      if (this.outputBytes > this.outputBytesMax) return;
      const more = this.runtime.workOnce();
      this.flush();
      if (more) return this.schedule();
      if (this.inputBytes > 0) this.post({ kind: 'credit', bytes: this.inputBytes });
      this.inputBytes = 0;
    });
  }

  private flush(): void {
    if (this.wire.length === 0) return;
    const packed = this.wire.take();
    this.outputBytes += packed.length;
    this.post({ kind: 'outputs', packed }, [packed.buffer]);
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
    this.post(event);
  }
}

if (!isMainThread && parentPort) {
  const port = parentPort;
  const thread = new Thread(
    (message, transfer) => port.postMessage(message, transfer),
    workerData as ThreadData,
  );
  port.on('message', (message: ToThread) => thread.receive(message));
}

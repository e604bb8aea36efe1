import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';
import type { EngineInput } from '../engine/engine-io.js';
import { readOutputs, writeInput } from './messages.js';
import {
  AccountRunner,
  type AccountCommand,
  type RunnerListener,
  type RunnerOptions,
} from './runner.js';
import type { FromThread, ThreadData, ToThread } from './thread-protocol.js';
import { WireReader, WireWriter } from './wire.js';

const threadsMax = 4;
/** A thread that dies is started again, not faster than this. */
const restartDelayMs = 200;
/** What a new thread may be sent before its inputs are looked at. */
const acksBeyond = 2;
/** Credit goes with inputs; without any it is sent when it comes to this part of the limit. */
const owedShare = 4;

export const defaultThreads = (): number =>
  Math.max(1, Math.min(threadsMax, availableParallelism() - 1));

/**
 * The built file: a thread does not see how this one's modules were loaded. Run from sources (by
 * tests), it is where the build puts it.
 */
const entry = (): URL =>
  new URL(
    import.meta.url.endsWith('.ts')
      ? '../../dist/workers/account-worker.js'
      : './account-worker.js',
    import.meta.url,
  );

/** One thread and what it has to know again when it dies. */
class AccountThread {
  private worker: Worker | null = null;
  private wire = new WireWriter();
  private flushing = false;
  private inFlight = 0;
  /** Bytes of outputs that were dealt with, which the thread does not know yet. */
  private owed = 0;
  private closing: (() => void) | null = null;
  private readonly opened = new Map<number, AccountCommand & { kind: 'open' }>();
  /** Asked for and not yet done: a thread that dies takes them with it. */
  private readonly commands = new Map<number, { account: number; what: AccountCommand }>();

  constructor(
    private readonly output: RunnerListener,
    private readonly options: RunnerOptions,
  ) {
    this.start();
  }

  input(account: number, input: EngineInput): boolean {
    const { inputBytesMax } = this.options.limits;
    const waiting = this.inFlight + this.wire.length;
    // Acknowledgements make room for others, so they have some more for themselves.
    const limit = input.kind === 'ack' ? inputBytesMax * acksBeyond : inputBytesMax;
    if (waiting > limit) return false;
    writeInput(this.wire, account, input);
    // A thread that has nothing to do begins at once; for one that works, inputs are gathered.
    if (this.inFlight === 0) this.flush();
    else if (!this.flushing) {
      this.flushing = true;
      setImmediate(() => this.flush());
    }
    return true;
  }

  command(command: number, account: number, what: AccountCommand): void {
    this.commands.set(command, { account, what });
    this.flush();
    this.post({ kind: 'command', command, account, what });
    this.remember(account, what);
  }

  close(): Promise<void> {
    return new Promise((resolve) => {
      const worker = this.worker;
      this.closing = resolve;
      if (!worker) return resolve();
      this.flush();
      this.post({ kind: 'close' });
    });
  }

  private remember(account: number, what: AccountCommand): void {
    const known = this.opened.get(account);
    if (what.kind === 'open') this.opened.set(account, what);
    else if (what.kind === 'drop') this.opened.delete(account);
    else if (known && what.kind !== 'end-pulls') {
      this.opened.set(account, { ...known, fenced: what.kind === 'fence' });
    }
  }

  private start(): void {
    const data: ThreadData = { options: this.options };
    const worker = new Worker(entry(), { workerData: data, name: 'jetstream' });
    this.worker = worker;
    worker.unref();
    worker.on('message', (message: FromThread) => this.heard(message));
    worker.on('error', (error: Error) => this.output.problem(-1, error.stack ?? String(error)));
    worker.on('exit', () => this.ended(worker));
  }

  private ended(worker: Worker): void {
    if (this.worker !== worker) return;
    this.worker = null;
    this.inFlight = 0;
    this.owed = 0;
    if (this.closing) return this.closing();
    // What it was working on gets no answer: clients ask again.
    this.wire = new WireWriter();
    setTimeout(() => {
      if (this.closing) return;
      const lost = [...this.commands];
      this.commands.clear();
      this.start();
      for (const [account, what] of this.opened) {
        this.post({ kind: 'command', command: 0, account, what });
      }
      // What came in meanwhile waited for a thread, behind the accounts that it is for.
      this.flush();
      // Taking up again stands for the command that was lost.
      for (const [command] of lost)
        this.output.done(command, { error: 'its thread was restarted' });
    }, restartDelayMs).unref();
  }

  private heard(message: FromThread): void {
    const { output } = this;
    if (message instanceof ArrayBuffer) return this.outputs(new WireReader(message));
    switch (message.kind) {
      case 'done':
        this.commands.delete(message.command);
        return output.done(message.command, message.result);
      case 'quarantined':
        return output.quarantined(message.account, message.asideFile, message.reason);
      case 'problem':
        return output.problem(message.account, message.error);
      case 'report':
        return output.report(message.counts);
      case 'closed': {
        const { worker, closing } = this;
        this.worker = null;
        void worker?.terminate().then(() => closing?.());
      }
    }
  }

  private outputs(wire: WireReader): void {
    this.inFlight -= wire.credit;
    readOutputs(wire, this.output);
    this.output.saidAll();
    this.owed += wire.length;
    if (this.owed > this.options.limits.outputBytesMax / owedShare) this.handOver();
  }

  private flush(): void {
    this.flushing = false;
    if (this.wire.length > 0 && this.worker) this.handOver();
  }

  private handOver(): void {
    this.inFlight += this.wire.length;
    this.post(...this.wire.take(this.owed));
    this.owed = 0;
  }

  private post(message: ToThread, transfer?: ArrayBuffer[]): void {
    this.worker?.postMessage(message, transfer);
  }
}

/** Accounts in a pool of threads; an account stays in the thread that its number leads to. */
export class ThreadRunner extends AccountRunner {
  private readonly threads: readonly AccountThread[];

  constructor(output: RunnerListener, options: RunnerOptions, threads = defaultThreads()) {
    super();
    this.threads = Array.from({ length: threads }, () => new AccountThread(output, options));
  }

  input(account: number, input: EngineInput): boolean {
    return this.threadOf(account).input(account, input);
  }

  command(command: number, account: number, what: AccountCommand): void {
    this.threadOf(account).command(command, account, what);
  }

  async close(): Promise<void> {
    await Promise.all(this.threads.map((thread) => thread.close()));
  }

  private threadOf(account: number): AccountThread {
    return this.threads[account % this.threads.length]!;
  }
}

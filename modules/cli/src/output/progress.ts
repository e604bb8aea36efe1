import { formatBytes } from '@rookery/core';
import cliProgress from 'cli-progress';
import type { OperationView } from '@rookery/api';
import { printable, span } from './format.js';

/** Where progress goes; results never do. */
export interface ProgressStream {
  readonly isTTY?: boolean;
  write(text: string): unknown;
}

/** A plain line for the same step is repeated at most this often. */
const lineEveryMs = 5000;
/** A host that is not heard of for so long is named. */
const silentMs = 10_000;

/** Shows long work on stderr: a bar on a terminal, a line a step elsewhere. */
export abstract class ProgressView {
  /** What is going on, in a few words. */
  abstract step(text: string): void;
  abstract operation(view: OperationView): void;
  /** Leaves the screen clean for what comes next. */
  abstract end(): void;

  static on(stream: ProgressStream): ProgressView {
    return stream.isTTY === true ? new BarProgress(stream) : new LineProgress(stream);
  }
}

/** `moving: send, 12 MiB of 1.2 GiB`. */
export function describeOperation(view: OperationView): string {
  const { progress, kind } = view;
  // Where it was when it ended says nothing any more.
  if (view.endedAt !== null) return printable(`${kind} ${view.state}`);
  const state = view.state === 'running' ? '' : ` ${view.state}`;
  const silence = describeSilence(view);
  if (progress === null) return printable(`${kind}${state}: ${view.step ?? 'waiting'}${silence}`);
  const amount = describeAmount(progress);
  const note = progress.message === undefined ? '' : ` (${progress.message})`;
  return printable(`${kind}${state}: ${progress.step}${amount}${note}${silence}`);
}

/** `; waits for host h2, not heard of since 40 s`; nothing while it gets on. */
function describeSilence({ waitsFor }: OperationView): string {
  if (waitsFor?.kind !== 'host') return '';
  const ms = Date.now() - Date.parse(waitsFor.since);
  if (ms < silentMs) return '';
  return `; waits for host ${waitsFor.name ?? waitsFor.id}, not heard of for ${span(ms)}`;
}

function describeAmount(progress: NonNullable<OperationView['progress']>): string {
  const { unit, total } = progress;
  const [done, of] = [progress.done, total ?? 0].map((value) =>
    unit === 'bytes' ? formatBytes(Math.round(value)) : String(value),
  );
  const name = unit === 'bytes' ? '' : ` ${total === 1 ? unit.replace(/s$/, '') : unit}`;
  // Nothing of nothing says nothing.
  if (total === 0) return '';
  if (total === undefined) return progress.done > 0 ? `, ${done}${name}` : '';
  return `, ${done} of ${of}${name}`;
}

class LineProgress extends ProgressView {
  private lastKey = '';
  private lastAt = 0;

  constructor(private readonly stream: ProgressStream) {
    super();
  }

  step(text: string): void {
    this.stream.write(`${text}\n`);
  }

  operation(view: OperationView): void {
    const key = `${view.id} ${view.state} ${view.step} ${view.progress?.step}`;
    const now = Date.now();
    if (key === this.lastKey && now - this.lastAt < lineEveryMs) return;
    this.lastKey = key;
    this.lastAt = now;
    this.stream.write(`${describeOperation(view)}\n`);
  }

  end(): void {
    this.lastKey = '';
  }
}

class BarProgress extends ProgressView {
  private bar: cliProgress.SingleBar | undefined;
  private barOf = '';
  private transient = false;

  constructor(private readonly stream: ProgressStream) {
    super();
  }

  step(text: string): void {
    this.end();
    this.stream.write(`${text}\n`);
  }

  operation(view: OperationView): void {
    const { progress } = view;
    const barOf = `${view.id} ${progress?.step} ${progress?.unit}`;
    if (progress?.total === undefined || progress.total === 0) {
      this.line(describeOperation(view));
      return;
    }
    if (this.barOf !== barOf || !this.bar) this.startBar(view, progress, barOf);
    this.bar?.setTotal(progress.total);
    this.bar?.update(progress.done, { message: printable(progress.message ?? '') });
  }

  end(): void {
    this.bar?.stop();
    this.bar = undefined;
    this.barOf = '';
    if (this.transient) this.stream.write('\r\x1b[K');
    this.transient = false;
  }

  private startBar(
    view: OperationView,
    progress: NonNullable<OperationView['progress']>,
    barOf: string,
  ): void {
    this.end();
    const title = printable(`${view.kind}: ${progress.step}`);
    this.bar = new cliProgress.SingleBar(
      {
        format: `${title.padEnd(24)} {bar} {percentage}%  {value} of {total}  {message}`,
        stream: this.stream as NodeJS.WritableStream,
        clearOnComplete: true,
        hideCursor: true,
        etaBuffer: 50,
        formatValue: (value, _options, type) =>
          progress.unit === 'bytes' && (type === 'value' || type === 'total')
            ? formatBytes(Math.round(value))
            : String(value),
        barsize: 30,
      },
      cliProgress.Presets.shades_classic,
    );
    this.barOf = barOf;
    this.bar.start(progress.total ?? 0, progress.done, { message: '' });
  }

  /** One line that the next one overwrites. */
  private line(text: string): void {
    if (this.bar) this.end();
    this.stream.write(`\r\x1b[K${text}`);
    this.transient = true;
  }
}

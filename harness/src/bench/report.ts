import { cpus, totalmem } from 'node:os';
import { readFile } from 'node:fs/promises';
import { formatBytes } from '@rookery/core';

/** One line of a benchmark: ours against a peer that ran in turn with it. */
export interface BenchRow {
  readonly row: string;
  readonly unit: string;
  readonly ours: number;
  readonly peer: number | null;
  readonly peerName: string | null;
  /** Ours against the peer, turned so that more is better. */
  readonly ratio: number | null;
  readonly goal: string | null;
  readonly floor: string | null;
  /** Whether the floor holds (the goal where there is no floor); null where neither is set. */
  readonly met: boolean | null;
}

export interface BenchReport {
  readonly bench: string;
  readonly date: string;
  readonly machine: string;
  readonly rows: readonly BenchRow[];
}

export interface Measured {
  row: string;
  unit: string;
  /** True for times: the smaller number is the better one. */
  lessIsBetter: boolean;
  ours: readonly number[];
  peer?: { name: string; values: readonly number[] };
  /** Against the ratio, or against our own figure. */
  goal?: { ratio: number } | { ours: number };
  floor?: { ratio: number };
}

export function rowOf(measured: Measured): BenchRow {
  const ours = median(measured.ours);
  const peer = measured.peer ? median(measured.peer.values) : null;
  const ratio = peer === null ? null : measured.lessIsBetter ? peer / ours : ours / peer;
  const bound = measured.floor ?? measured.goal;
  return {
    row: measured.row,
    unit: measured.unit,
    ours: rounded(ours),
    peer: peer === null ? null : rounded(peer),
    peerName: measured.peer?.name ?? null,
    ratio: ratio === null ? null : rounded(ratio),
    goal: measured.goal ? boundText(measured.goal, measured) : null,
    floor: measured.floor ? boundText(measured.floor, measured) : null,
    met: bound ? holds(bound, ours, ratio, measured.lessIsBetter) : null,
  };
}

function holds(
  bound: { ratio: number } | { ours: number },
  ours: number,
  ratio: number | null,
  lessIsBetter: boolean,
): boolean {
  if ('ratio' in bound) return ratio !== null && ratio >= bound.ratio;
  return lessIsBetter ? ours <= bound.ours : ours >= bound.ours;
}

function boundText(bound: { ratio: number } | { ours: number }, measured: Measured): string {
  if ('ratio' in bound) return `≥ ${bound.ratio} ×`;
  return `${measured.lessIsBetter ? '≤' : '≥'} ${bound.ours} ${measured.unit}`;
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const [low, high] = [sorted[middle - 1] ?? 0, sorted[middle] ?? 0];
  return sorted.length % 2 === 1 ? high : (low + high) / 2;
}

const rounded = (value: number): number => Number(value.toPrecision(3));

export async function machineText(): Promise<string> {
  const kernel = (await readFile('/proc/sys/kernel/osrelease', 'utf8')).trim();
  const model = cpus()[0]?.model.trim() ?? 'unknown processor';
  return `${cpus().length} × ${model}, ${formatBytes(totalmem())}, Linux ${kernel}, Node ${process.version}`;
}

export function tableOf(report: BenchReport): string {
  const show = (value: number | string | null): string => (value === null ? '' : String(value));
  const met = (value: boolean | null): string => (value === null ? '' : value ? 'yes' : 'no');
  return [
    `${report.bench} (${report.date}; ${report.machine})`,
    '',
    '| row | ours | peer | ratio | goal | met |',
    '| --- | --- | --- | --- | --- | --- |',
    ...report.rows.map((r) => {
      const peer = r.peer === null ? '' : `${show(r.peer)} ${r.unit} (${show(r.peerName)})`;
      const floor = r.floor === null ? '' : ` (at least ${r.floor.replace('≥ ', '')})`;
      const goal = `${show(r.goal)}${floor}`.trim();
      return `| ${r.row} | ${r.ours} ${r.unit} | ${peer} | ${show(r.ratio)} | ${goal} | ${met(r.met)} |`;
    }),
    '',
  ].join('\n');
}

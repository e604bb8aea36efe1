import type { Verdict } from './jest.js';
import type { Mutant } from './operators.js';
import type { PlaceFile } from './places.js';

export interface Tried extends Mutant {
  readonly file: string;
  readonly verdict: Verdict;
}

export interface PlaceReport {
  readonly place: string;
  readonly mutants: number;
  readonly killed: number;
  /** Killed of all, in percent. */
  readonly score: number;
  readonly survivors: readonly Tried[];
}

export function reportOf(place: string, tried: readonly Tried[]): PlaceReport {
  const survivors = tried.filter(({ verdict }) => verdict === 'survived');
  const killed = tried.length - survivors.length;
  const score = tried.length === 0 ? 100 : Math.floor((1000 * killed) / tried.length) / 10;
  return { place, mutants: tried.length, killed, score, survivors };
}

/** True for what its place says that no test can notice. */
export function isEquivalent({ equivalent = [] }: PlaceFile, mutant: Mutant): boolean {
  return equivalent.some(
    ({ was, text, on = '' }) =>
      mutant.was.includes(was) &&
      mutant.on.includes(on) &&
      (text === undefined || text === mutant.text),
  );
}

const shownCharsMax = 70;

const oneLine = (text: string): string => {
  const line = text.replace(/\s+/g, ' ').trim();
  return line.length > shownCharsMax ? `${line.slice(0, shownCharsMax)}…` : line;
};

export function lineOf(mutant: Mutant & { readonly file: string }): string {
  const { file, line, operator, was, text } = mutant;
  return `${file}:${line} ${operator}: ${oneLine(was)} → ${oneLine(text) || '(nothing)'}`;
}

export function tableOf(reports: readonly PlaceReport[]): string {
  const rows = reports.map(({ place, mutants, killed, score }) => {
    return `${place.padEnd(12)} ${String(killed).padStart(4)} of ${String(mutants).padStart(4)}  ${score.toFixed(1)} %`;
  });
  return rows.join('\n');
}

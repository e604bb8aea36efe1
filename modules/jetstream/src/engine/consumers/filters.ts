import { PatternSet } from '@rookery/conat/contract';
import type { Filters } from '../account-store.js';

/** A set of patterns that are binary strings already, as everywhere in the engine. */
export const patternSet = (patterns: readonly string[]): PatternSet =>
  new PatternSet(patterns.map((pattern) => Buffer.from(pattern, 'latin1').toString('utf8')));

/** A consumer's subject filters, compiled. */
export class FilterSet {
  /** What the store is asked with; null when the filters let everything of the stream through. */
  readonly forStore: Filters;
  private readonly set: PatternSet | null;

  /** @param allPass true when what is stored and what the stream takes passes the filters anyway */
  constructor(
    readonly subjects: readonly string[],
    allPass: boolean,
  ) {
    this.set = subjects.length === 0 || allPass ? null : patternSet(subjects);
    this.forStore = this.set === null ? null : subjects;
  }

  matches(subject: string): boolean {
    return this.set === null || this.set.covers(subject.split('.'));
  }

  /** Does everything pass that comes on these subjects? */
  coversAll(subjects: readonly string[]): boolean {
    if (subjects.length === 0) return false;
    const set = patternSet(this.subjects);
    return subjects.every((subject) => set.covers(subject.split('.')));
  }

  /** Could a message be wanted both here and there? */
  collides(subjects: readonly string[]): boolean {
    if (this.subjects.length === 0) return true;
    const own = patternSet(this.subjects);
    return subjects.some((subject) => own.overlaps(subject.split('.')));
  }
}

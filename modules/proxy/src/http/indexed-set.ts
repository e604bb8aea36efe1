/** What a roster holds knows its own place there; -1 when it is in none. */
export interface Listed {
  place: number;
}

/**
 * A set for objects that come and go with each request. Not a `Set`: V8 makes a new table every few
 * dozen additions and deletions, and each old one, once it has grown old in the heap, keeps the next
 * alive with all that was in it. That carries the state of nearly every request into the old
 * generation, and a tenth of the time into garbage collection.
 */
export class IndexedSet<T extends Listed> {
  private readonly listed: T[] = [];

  get size(): number {
    return this.listed.length;
  }

  add(item: T): void {
    item.place = this.listed.length;
    this.listed.push(item);
  }

  has(item: T): boolean {
    return this.listed[item.place] === item;
  }

  /** False when it was not there. */
  delete(item: T): boolean {
    if (!this.has(item)) return false;
    const last = this.listed.pop();
    if (last && last !== item) {
      this.listed[item.place] = last;
      last.place = item.place;
    }
    item.place = -1;
    return true;
  }

  clear(): void {
    for (const item of this.listed.splice(0)) item.place = -1;
  }

  /** As it is now, in no order. */
  all(): T[] {
    return [...this.listed];
  }
}

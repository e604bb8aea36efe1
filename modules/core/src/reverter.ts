/**
 * Undoes the effects of a function that fails half way, newest first (after Incus' `revert`).
 *
 * ```ts
 * await using revert = new Reverter();
 * await createSubvolume(path);
 * revert.add(() => deleteSubvolume(path));
 * …
 * revert.success();
 * ```
 */
export class Reverter implements AsyncDisposable {
  private undos: (() => unknown)[] = [];

  add(undo: () => unknown): void {
    this.undos.push(undo);
  }

  /** Keeps the effects: nothing added so far will be undone. */
  success(): void {
    this.undos = [];
  }

  /**
   * Runs what was added, newest first. One failing undo does not stop the others.
   * @throws AggregateError of the undos that failed.
   */
  async fail(): Promise<void> {
    const failures: unknown[] = [];
    for (const undo of this.undos.splice(0).reverse()) {
      try {
        await undo();
      } catch (error) {
        failures.push(error);
      }
    }
    if (failures.length > 0) throw new AggregateError(failures, 'some effects could not be undone');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.fail();
  }
}

import type { Circus } from '@jest/types';
import { TestEnvironment } from 'jest-environment-node';

/** One failure kills a mutant: what comes after it is not worth its time. Clean-ups still run. */
export default class FirstFailureEnvironment extends TestEnvironment {
  private failed = false;

  handleTestEvent(event: Circus.Event): void {
    if (event.name === 'test_done' && event.test.errors.length > 0) this.failed = true;
    if (event.name === 'hook_failure') this.failed = true;
    if (event.name === 'test_start' && this.failed) event.test.mode = 'skip';
  }
}

import { expect, it } from '@jest/globals';
import { keepBackups } from '../examples/keep-backups.js';

it('the example keeps and restores a project', async () => {
  expect(await keepBackups()).toBe('kept');
});

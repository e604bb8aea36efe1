import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as jest from '@jest/globals';
import { accountStoreConformance, openTestStore } from '@rookery/jetstream/testing';

accountStoreConformance('a file', jest, () => {
  const folder = mkdtempSync(join(tmpdir(), 'rookery-store-'));
  const open = () => openTestStore(join(folder, 'conat.sqlite'));
  let store = open();
  return {
    get store() {
      return store;
    },
    reopen: () => {
      store.close();
      return (store = open());
    },
    dispose: () => {
      store.close();
      rmSync(folder, { recursive: true });
    },
  };
});

accountStoreConformance('memory', jest, () => {
  const store = openTestStore(':memory:');
  return { store, reopen: null, dispose: () => store.close() };
});

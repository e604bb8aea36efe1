import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import {
  MiB,
  newId,
  parseConfig,
  SystemExec,
  type Exec,
  type ExecOptions,
  type ExecResult,
} from '@rookery/core';
import { BtrfsStorageDriver, StorageOptions } from '@rookery/storage';
import { loopbackVolume, type TestVolume } from '@rookery/storage/testing';

const quotaBytes = 256 * MiB;
const nothing = { projects: [], moves: [], frozen: [], retired: [] };

let volume: TestVolume;
let driver: BtrfsStorageDriver;
const driverOf = (exec: Exec): BtrfsStorageDriver => {
  const { volume: path, btrfsProgram } = volume;
  const options = { volume: path, btrfsProgram, reconcileGraceMs: 0, minFreeBytes: 0 };
  return new BtrfsStorageDriver(exec, parseConfig(StorageOptions, options));
};

beforeAll(async () => {
  volume = await loopbackVolume({ sizeBytes: 512 * MiB });
  driver = driverOf(new SystemExec());
  await driver.open();
});
afterAll(() => volume?.destroy());

const homeOf = async (id: string): Promise<string> =>
  (await driver.volume(id))?.paths.home ?? '/nonexistent';
const isCommand =
  (...words: string[]) =>
  (argv: readonly string[]): boolean =>
    words.every((word) => argv.includes(word));

/** Does something else right after the first command that matches, before its caller goes on. */
class Meanwhile extends SystemExec {
  constructor(
    private readonly matches: (argv: readonly string[]) => boolean,
    private task: (() => Promise<void>) | undefined,
  ) {
    super();
  }

  override async run(argv: readonly string[], options?: ExecOptions): Promise<ExecResult> {
    const result = await super.run(argv, options);
    if (!this.task || !this.matches(argv)) return result;
    const { task } = this;
    this.task = undefined;
    await task();
    return result;
  }
}

describe('what takes longer than the reconciler waits', () => {
  /** A driver that reconciles in the middle of its own work, when that is old enough to be dropped. */
  async function slowAt(matches: (argv: readonly string[]) => boolean, id: string) {
    let reconciled = false;
    const projects = [{ projectId: id, quotaBytes }];
    const slow: BtrfsStorageDriver = driverOf(
      new Meanwhile(matches, async () => {
        await slow.reconcile({ ...nothing, projects });
        reconciled = true;
      }),
    );
    await slow.open();
    return { slow, reconciled: () => reconciled };
  }

  it('restores a path with all its files', async () => {
    const id = newId();
    await driver.createVolume(id, { quotaBytes });
    const folder = join(await homeOf(id), 'deep');
    await mkdir(folder);
    for (let n = 0; n < 20; n += 1) await writeFile(join(folder, `${n}`), `${n}`);
    await driver.createSnapshot(id, 'then');
    await rm(folder, { recursive: true });
    const { slow, reconciled } = await slowAt(isCommand('cp'), id);
    await slow.restoreSnapshotPath(id, 'then', 'deep');
    expect(reconciled()).toBe(true);
    expect(await readdir(folder)).toHaveLength(20);
    expect((await driver.listSnapshots(id)).map(({ name }) => name)).toEqual(['then']);
    await driver.deleteVolume(id);
  });

  it('clones a project', async () => {
    const [id, to] = [newId(), newId()];
    await driver.createVolume(id, { quotaBytes });
    await writeFile(join(await homeOf(id), 'a'), 'kept');
    const landing = (argv: readonly string[]): boolean =>
      isCommand('create')(argv) && argv.some((word) => word.endsWith(`clone-${to}`));
    const { slow, reconciled } = await slowAt(landing, id);
    await slow.cloneVolume({ projectId: id }, to, { quotaBytes });
    expect(reconciled()).toBe(true);
    expect(await readFile(join(await homeOf(to), 'a'), 'utf8')).toBe('kept');
    for (const each of [id, to]) await driver.deleteVolume(each);
  });
});

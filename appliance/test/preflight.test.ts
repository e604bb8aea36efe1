import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { SystemExec, type Exec } from '@rookery/core';
import { configFromEnvironment } from '../src/config/config.js';
import { requireParts } from '../src/supervisor/preflight.js';

describe('what a host needs of its machine', () => {
  let folder: string;
  let env: Record<string, string>;

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'rookery-parts-'));
    env = {
      ROOKERY_DATA: '/srv/host',
      ROOKERY_HUB_URL: 'http://hub.example:7700',
      ROOKERY_HOST_NAME: 'one',
      ROOKERY_CACHE: join(folder, 'cache'),
    };
    for (const part of ['programs', 'cache/tools/bin', 'cache/images']) {
      await mkdir(join(folder, part), { recursive: true });
    }
  });
  afterEach(() => rm(folder, { recursive: true, force: true }));

  /** A machine with these programs only. */
  async function machineWith(...programs: string[]): Promise<Exec> {
    for (const name of programs) {
      await writeFile(join(folder, 'programs', name), '', { mode: 0o755 });
    }
    const exec = new SystemExec();
    await symlink('/bin/sh', join(folder, 'programs/sh'));
    const PATH = join(folder, 'programs');
    return {
      run: (argv, options) => exec.run(argv, { ...options, env: { ...options?.env, PATH } }),
      spawn: (argv, options) => exec.spawn(argv, options),
    };
  }

  const utilLinux = ['mount', 'losetup', 'unshare', 'nsenter', 'setpriv'];

  it('is named all at once', async () => {
    const archives = { 'a:1': '/nonexistent/a.tar' };
    const config = configFromEnvironment({
      ...env,
      ROOKERY_TOOLS_DIR: '/nonexistent/tools',
      ROOKERY_LOCAL_IMAGES: JSON.stringify(archives),
      ROOKERY_BACKUP_REPOSITORY: '/srv/backups',
      ROOKERY_BACKUP_PASSWORD_FILE: '/srv/password',
    });
    const machine = await machineWith('ip', ...utilLinux);
    const failure: unknown = await requireParts(config, machine).catch((error: unknown) => error);
    expect(failure).toMatchObject({ code: 'HOST_PARTS_MISSING' });
    const { message } = failure as Error;
    for (const part of [
      'podman (package podman)',
      'crun or runc',
      'nft (package nftables)',
      'btrfs (',
      'mkfs.btrfs (package btrfs-progs)',
      'restic',
      'the tools bundle in /nonexistent/tools',
      'the archive /nonexistent/a.tar of a:1',
      './rookery join',
    ]) {
      expect(message).toContain(part);
    }
    for (const there of ['iproute2', 'util-linux']) expect(message).not.toContain(there);
  });

  it('is taken from what the entry script has brought, where the settings say nothing', async () => {
    await writeFile(join(folder, 'cache/tools/bin/rookery-init'), '');
    await writeFile(join(folder, 'cache/images/debian-13.tar'), '');
    const others = ['podman', 'runc', 'nft', 'ip', 'btrfs', 'mkfs.btrfs'];
    const machine = await machineWith(...others, ...utilLinux);
    const config = configFromEnvironment(env);
    expect(config.localImages).toEqual({
      'localhost/rookery/debian:13': join(folder, 'cache/images/debian-13.tar'),
    });
    await expect(requireParts(config, machine)).resolves.toBeUndefined();
  });
});

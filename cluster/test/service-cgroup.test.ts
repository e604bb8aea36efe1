import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from '@jest/globals';
import { machineMemoryBytes, projectMemoryBytes } from '@rookery/core';
import { protectMemory, serviceCgroup } from '../src/service-cgroup.js';

/** What the kernel would show there; it takes the same writes. */
let root: string;
const dataDir = '/srv/a cluster';
const folder = () => join(root, serviceCgroup(dataDir));
const text = (file: string) => readFile(join(folder(), file), 'utf8');
const bytes = String(machineMemoryBytes() - projectMemoryBytes());

beforeEach(async () => (root = await mkdtemp(join(tmpdir(), 'rookery-cgroup-'))));
afterEach(() => rm(root, { recursive: true, force: true }));

it('keeps for hub and hosts what projects leave', async () => {
  await writeFile(join(root, 'cgroup.controllers'), 'cpu memory pids\n');
  expect(await protectMemory(4711, dataDir, root)).toBe(true);
  expect(await text('memory.min')).toBe(bytes);
  expect(await text('cgroup.procs')).toBe('4711');
  expect(await protectMemory(4712, dataDir, root)).toBe(true);
  expect(await text('cgroup.procs')).toBe('4712');
});

it('asks for less where the kernel gives no guarantee', async () => {
  await writeFile(join(root, 'cgroup.controllers'), 'memory\n');
  await mkdir(join(folder(), 'memory.min'), { recursive: true });
  expect(await protectMemory(4711, dataDir, root)).toBe(true);
  expect(await text('memory.low')).toBe(bytes);
});

it('leaves processes where they are on version 1 and without the controller', async () => {
  expect(await protectMemory(4711, dataDir, root)).toBe(false);
  await writeFile(join(root, 'cgroup.controllers'), 'cpu\n');
  expect(await protectMemory(4711, dataDir, root)).toBe(false);
  expect(await readdir(root)).toEqual(['cgroup.controllers']);
});

import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { createLogger, newId, SystemClock, waitFor } from '@rookery/core';
import { ProjectSpec } from '@rookery/core/contract';
import { MemoryDriver } from '@rookery/runner';
import { StorageErrors } from '@rookery/storage';
import { MemoryStorageDriver } from '@rookery/storage/testing';
import { AccessStore } from '../src/access/access-store.js';
import { AccessSync } from '../src/access/access-sync.js';
import { ProjectRepository } from '../src/projects/project.repository.js';
import { SqliteMoveJournal } from '../src/projects/sqlite-journals.js';
import { openDatabase } from '../src/database/database.js';
import { ProjectRow } from '../src/database/entities/project.entity.js';
import type { HostDatabase } from '../src/database/host-database.js';
import { HostRecord } from '../src/hub/host-record.js';
import { HostStatus, type ReportedPage } from '../src/hub/host-status.js';
import { ImageReports } from '../src/hub/image-reports.js';
import { HubLink, type HubLinkDependencies } from '../src/hub/hub-link.js';
import { Ownership } from '../src/hub/ownership.js';
import { loadIdentity } from '../src/identity/identity.js';
import { FakeHub } from './fake-hub.js';

const clock = new SystemClock();
const logger = createLogger('test', 'silent');
/** More than one message holds. */
const projectCount = 6000;

/** Notes how sizes are asked for, and which images are read. */
class AskedStorage extends MemoryStorageDriver {
  readonly read: string[] = [];
  readonly unreadable = new Set<string>();

  override async imageTree(digest: string) {
    this.read.push(digest);
    if (this.unreadable.has(digest)) throw StorageErrors.IMAGE_UNREADABLE({ digest, reason: '' });
    return super.imageTree(digest);
  }

  readonly asked: ({ committed?: boolean } | undefined)[] = [];

  override usage(id: string, options?: { committed?: boolean }) {
    this.asked.push(options);
    return super.usage(id);
  }
}

describe('a host’s reports', () => {
  let folder: string;
  let database: HostDatabase;
  let books: ProjectRepository;
  let storage: AskedStorage;
  let hub: FakeHub;
  let link: HubLink;
  const stopped: string[] = [];

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'rookery-reports-'));
    database = await openDatabase(join(folder, 'host.sqlite'));
    books = new ProjectRepository(database, clock);
    storage = new AskedStorage();
    await storage.open();
    hub = new FakeHub();
    await hub.start();
    link = await linkTo();
  });
  afterEach(async () => {
    await link.stop();
    await hub.stop();
    await storage.close();
    await database.close();
    await rm(folder, { recursive: true, force: true });
  });

  const copies = { count: async () => 0 };

  async function linkTo(): Promise<HubLink> {
    const access = new AccessSync(new AccessStore(database, clock, 60_000), clock, logger);
    const containers = new MemoryDriver();
    const control = {
      stop: async (projectId: string) => void stopped.push(projectId),
      ensureRunning: async () => undefined,
      endWriters: async () => undefined,
    };
    const parts = {
      config: { hubUrl: hub.url, joinToken: hub.joinToken, hostName: 'h', region: 'r' },
      identity: await loadIdentity(join(folder, 'keys'), database),
      record: new HostRecord(database, () => undefined),
      status: new HostStatus(storage, containers, books, undefined, copies, clock),
      ownership: new Ownership(books, new SqliteMoveJournal(database), control, logger),
      tokens: { attach: () => undefined, fillMissing: async () => undefined },
      ended: { attach: () => undefined },
      images: new ImageReports(storage, logger),
      access,
      serve: async () => undefined,
      clock,
      logger,
    };
    Object.assign(parts.config, {
      publicUrl: 'http://127.0.0.1:1',
      internalUrl: 'http://127.0.0.1:1',
      sshPort: 22,
    });
    return new HubLink(parts as unknown as HubLinkDependencies);
  }

  /** Rows in one transaction: a commit each would take seconds. */
  async function addProjects(count: number): Promise<string[]> {
    const first = newId();
    const spec = ProjectSpec.parse({ image: 'x', quota: {} });
    await books.change(first, (_row, save) => save({ spec, generation: 1, state: 'running' }));
    const row = (await books.get(first))!;
    const ids = [first, ...Array.from({ length: count - 1 }, () => newId())];
    database.write((rows) => {
      for (const projectId of ids) {
        rows.put(ProjectRow, { ...row, projectId, imageDigest: `sha256:${'a'.repeat(64)}` });
      }
    });
    return ids;
  }

  it('reach the hub however many projects it has, and strays are told from others', async () => {
    const [stray, ...owned] = await addProjects(projectCount);
    for (const id of owned) hub.owned.set(id, 1);
    link.start();
    await waitFor('the stray is stopped', () => stopped.includes(stray!), { timeoutMs: 20_000 });
    expect(new Set(stopped)).toEqual(new Set([stray]));
    expect(hub.heartbeats.at(-1)!.projects.length).toBeLessThanOrEqual(1000);
    await waitFor('all are reported', () => hub.reported.size === projectCount, {
      timeoutMs: 10_000,
    });
  });

  it('say what each page is of, so that what is on none is known to be missing', async () => {
    const ids = (await addProjects(projectCount)).sort();
    const status = new HostStatus(storage, new MemoryDriver(), books, undefined, copies, clock);
    const pages: ReportedPage[] = [];
    for await (const page of status.reports()) pages.push(page);
    expect(pages.length).toBeGreaterThan(1);
    expect(pages.flatMap((page) => page.projects.map(({ projectId }) => projectId))).toEqual(ids);
    const lasts = pages.slice(0, -1).map((page) => page.projects.at(-1)!.projectId);
    expect(pages.map((page) => page.span.after)).toEqual([undefined, ...lasts]);
    expect(pages.map((page) => page.span.upTo)).toEqual([...lasts, undefined]);
  });

  it('say once what each image holds, whatever keeps one from being read', async () => {
    const digests = ['a', 'b', 'c'].map((digit) => `sha256:${digit.repeat(64)}`);
    const make = async (digest: string): Promise<void> => {
      await using staged = await storage.stageImage();
      await writeFile(join(staged.path, 'file'), digest);
      await staged.commit(digest);
    };
    const [unreadable, first, later] = digests as [string, string, string];
    storage.unreadable.add(unreadable);
    for (const digest of [unreadable, first]) await make(digest);
    link.start();
    const told = (digest: string) => () => hub.imageTrees.get(`${hub.hostId} ${digest}`);
    const within = { timeoutMs: 20_000 };
    const tree = await waitFor('the first is told', told(first), within);
    expect(tree).toBe(await storage.imageTree(first));
    await make(later);
    await waitFor('the later one is told', told(later), within);
    expect(told(unreadable)()).toBeUndefined();
    // Once by the link, which has gone on since; the first also by this test.
    expect(storage.read.filter((digest) => digest === unreadable)).toHaveLength(1);
    expect(storage.read.filter((digest) => digest === first)).toHaveLength(2);
  });

  it('are of what the file system has committed: nothing is synced for them', async () => {
    const [id] = await addProjects(1);
    await storage.createVolume(id!, { quotaBytes: 1000 });
    link.start();
    await waitFor('it is reported', () => hub.report(id!)?.diskUsedBytes !== undefined, {
      timeoutMs: 10_000,
    });
    expect(storage.asked).toEqual([{ committed: true }]);
  });
});

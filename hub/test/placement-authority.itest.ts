import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { GiB, newId, waitFor } from '@rookery/core';
import { MoveState } from '@rookery/core/contract';
import {
  DataSource,
  type DeepPartial,
  type EntityTarget,
  type ObjectLiteral,
  type QueryRunner,
} from 'typeorm';
import { AuditService } from '../src/audit/audit.service.js';
import { configFromEnvironment } from '../src/config/config.js';
import { dataSourceOptions, openDataSource } from '../src/database/data-source.js';
import { HostKey, ProjectHost } from '../src/database/entities/host.entity.js';
import {
  Operation,
  ProjectMove,
  type StoredMoveState,
} from '../src/database/entities/operation.entity.js';
import { Project } from '../src/database/entities/project.entity.js';
import { AuditRow } from '../src/database/entities/record.entity.js';
import { PostgresPlacementAuthority } from '../src/operations/postgres-placement-authority.js';
import { ProjectRepository } from '../src/projects/project.repository.js';
import { startPostgres, type TestPostgres } from './support/postgres.js';

let postgres: TestPostgres;
let dataSource: DataSource;
let authority: PostgresPlacementAuthority;
const [fromHostId, toHostId] = [newId(), newId()];

/** The rows of one move; no worker is there, so nobody but the test changes them. */
interface Rows {
  readonly projectId: string;
  readonly moveId: string;
  readonly operationId: string;
}

beforeAll(async () => {
  postgres = await startPostgres();
  dataSource = new DataSource(dataSourceOptions(postgres.url));
  await openDataSource(dataSource);
  const config = configFromEnvironment({
    ROOKERY_DATA: postgres.dir,
    ROOKERY_PUBLIC_URL: 'http://hub.test',
  });
  authority = new PostgresPlacementAuthority(dataSource, new AuditService(dataSource), config);
  await addHost(fromHostId, 'from');
  await addHost(toHostId, 'to');
});

afterAll(async () => {
  await dataSource?.destroy();
  await postgres?.close();
});

async function addHost(id: string, name: string): Promise<void> {
  const url = `http://${name}.test`;
  const host = {
    id,
    name,
    region: 'r',
    publicUrl: url,
    internalUrl: url,
    tunnel: null,
    version: '1',
    sshEndpoint: { host: `${name}.test`, port: 22 },
    status: 'active',
    images: [],
    capabilities: {},
    capacity: {},
    lastSeen: null,
    schedulable: true,
    trust: 'trusted',
  };
  await dataSource.manager.insert(ProjectHost, host as never);
  for (const purpose of ['ingress', 'transfer'] as const) {
    const key = { id: newId(), hostId: id, purpose, publicKey: `${purpose} of ${name}` };
    await dataSource.manager.insert(HostKey, { ...key, notAfter: null, retiredAt: null });
  }
}

async function addMove(move: DeepPartial<ProjectMove> = {}): Promise<Rows> {
  const { manager } = dataSource;
  const rows = { projectId: newId(), moveId: newId(), operationId: newId() };
  const quota = { diskBytes: GiB, memoryBytes: GiB, cpus: 1, pidsMax: 64 };
  const project = {
    id: rows.projectId,
    title: 'p',
    hostId: fromHostId,
    placementGeneration: 3,
    runQuota: quota,
    publicPorts: [],
    state: 'running',
    desiredState: 'running',
    provisioned: true,
    rootfsImage: 'debian:13',
  };
  await manager.insert(Project, project as never);
  const operation = {
    id: rows.operationId,
    kind: 'project.move',
    projectId: rows.projectId,
    attempt: 2,
    state: 'running',
    lane: 'lifecycle',
    input: {},
    cancelRequested: false,
  };
  await manager.insert(Operation, operation as never);
  await manager.insert(ProjectMove, {
    id: rows.moveId,
    operationId: rows.operationId,
    projectId: rows.projectId,
    reason: 'move',
    state: 'committing',
    fromHostId,
    toHostId,
    fromGeneration: 3,
    details: {},
    ...move,
  } as never);
  return rows;
}

const commitOf = (rows: Rows, change: object = {}) => ({
  moveId: rows.moveId,
  projectId: rows.projectId,
  attempt: 2,
  expectedGeneration: 3,
  toHostId,
  ...change,
});

const projectOf = ({ projectId }: Rows) =>
  dataSource.manager.findOneByOrFail(Project, { id: projectId });
const moveOf = ({ moveId }: Rows) =>
  dataSource.manager.findOneByOrFail(ProjectMove, { id: moveId });

async function refuses(work: Promise<unknown>, code: string, rows: Rows): Promise<void> {
  const [project, move] = [await projectOf(rows), await moveOf(rows)];
  await expect(work).rejects.toMatchObject({ code });
  expect(await projectOf(rows)).toEqual(project);
  expect(await moveOf(rows)).toEqual(move);
}

let rows: Rows;
beforeEach(async () => {
  rows = await addMove();
});

describe('a commit', () => {
  it('changes the owner once, and says the same when it is asked again', async () => {
    expect(await authority.commit(commitOf(rows))).toBe(4);
    expect(await authority.commit(commitOf(rows))).toBe(4);
    expect(await projectOf(rows)).toMatchObject({
      hostId: toHostId,
      placementGeneration: 4,
      host: { name: 'to', publicUrl: 'http://to.test' },
    });
    const move = await moveOf(rows);
    expect(move.newGeneration).toBe(4);
    expect(move.committedAt).toBeInstanceOf(Date);
    const subject = `project:${rows.projectId}`;
    const audited = await dataSource.manager.findBy(AuditRow, { subject });
    expect(audited).toHaveLength(1);
    expect(audited[0]).toMatchObject({
      actor: 'hub',
      action: 'project.owner-changed',
      details: {
        moveId: rows.moveId,
        reason: 'move',
        generation: 4,
        fromHostId,
        toHostId,
        operationId: rows.operationId,
      },
    });
  });

  it.each(MoveState.options.filter((state) => state !== 'committing' && state !== 'stuck'))(
    'is refused in the state %s',
    async (state) => {
      await dataSource.manager.update(ProjectMove, rows.moveId, { state });
      await refuses(authority.commit(commitOf(rows)), 'MOVE_UNDONE', rows);
    },
  );

  it.each([
    ['an older attempt', { attempt: 1 }, 'LEASE_LOST'],
    ['an attempt that nobody was given', { attempt: 3 }, 'LEASE_LOST'],
    ['another generation', { expectedGeneration: 2 }, 'STALE_GENERATION'],
    ['another destination', { toHostId: fromHostId }, 'STALE_GENERATION'],
    ['an unknown move', { moveId: newId() }, 'NOT_FOUND'],
  ])('is refused with %s', async (_, change, code) => {
    await refuses(authority.commit(commitOf(rows, change)), code, rows);
  });

  it.each([
    ['has another owner', { hostId: toHostId }],
    ['has a newer generation', { placementGeneration: 5 }],
    ['was deleted', { deletedAt: new Date() }],
  ])('is refused when the project %s', async (_, change) => {
    await dataSource.manager.update(Project, rows.projectId, change);
    await refuses(authority.commit(commitOf(rows)), 'STALE_GENERATION', rows);
  });

  it('is one of two that come at once', async () => {
    const both = [authority.commit(commitOf(rows)), authority.commit(commitOf(rows))];
    expect(await Promise.all(both)).toEqual([4, 4]);
    expect((await projectOf(rows)).placementGeneration).toBe(4);
  });

  it('and an undo that come at once: one of them wins', async () => {
    const [committed, undone] = await Promise.allSettled([
      authority.commit(commitOf(rows)),
      authority.beginUndo(rows.moveId, 2),
    ]);
    const owner = (await projectOf(rows)).hostId;
    const won = committed.status === 'fulfilled';
    expect(undone).toEqual({ status: 'fulfilled', value: won ? 'committed' : 'undoing' });
    expect(owner).toBe(won ? toHostId : fromHostId);
  });
});

/** Another transaction, which changes a row and ends when the test says so. */
async function changing(
  entity: EntityTarget<ObjectLiteral>,
  id: string,
  change: object,
): Promise<QueryRunner> {
  const other = dataSource.createQueryRunner();
  await other.startTransaction();
  await other.manager.update(entity, id, change);
  return other;
}

const someoneWaits = async (): Promise<boolean> => {
  const waiting = await dataSource.query<unknown[]>(
    `SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`,
  );
  return waiting.length > 0;
};

describe('a commit beside another transaction', () => {
  it.each([
    ['claims the operation', Operation, 'operationId', { attempt: 3 }, 'LEASE_LOST'],
    ['undoes the move', ProjectMove, 'moveId', { state: 'undoing' }, 'MOVE_UNDONE'],
    ['deletes the project', Project, 'projectId', { deletedAt: new Date() }, 'STALE_GENERATION'],
  ] as const)('that %s waits for its end, and is refused', async (...row) => {
    const [, entity, id, change, code] = row;
    const other = await changing(entity, rows[id], change);
    try {
      const answer = authority.commit(commitOf(rows)).catch((error: unknown) => error);
      await waitFor('it waits for the row', someoneWaits, { timeoutMs: 5000 });
      await other.commitTransaction();
      expect(await answer).toMatchObject({ code });
    } finally {
      await other.release();
    }
    expect((await projectOf(rows)).hostId).toBe(fromHostId);
    expect((await moveOf(rows)).newGeneration).toBeNull();
  });
});

/** Postgres ends a transaction of which a statement failed with a silent ROLLBACK. */
describe('a write that fails', () => {
  const changes = {
    commit: () => authority.commit(commitOf(rows)),
    state: () => authority.setState(rows.moveId, 2, 'activating'),
    undo: () => authority.beginUndo(rows.moveId, 2),
  };

  it.each([
    ['commit', 'projects'],
    ['commit', 'project_moves'],
    ['commit', 'audit_log'],
    ['state', 'projects'],
    ['state', 'project_moves'],
    ['undo', 'projects'],
    ['undo', 'project_moves'],
  ] as const)('fails the %s, and changes nothing: to %s', async (change, table) => {
    const before = [await projectOf(rows), await moveOf(rows)];
    await dataSource.query(`CREATE OR REPLACE FUNCTION broken() RETURNS trigger LANGUAGE plpgsql
      AS $$ BEGIN RAISE EXCEPTION 'this write fails'; END $$`);
    await dataSource.query(`CREATE TRIGGER broken BEFORE INSERT OR UPDATE ON ${table}
      FOR EACH ROW EXECUTE FUNCTION broken()`);
    try {
      await expect(changes[change]()).rejects.toThrow('this write fails');
    } finally {
      await dataSource.query(`DROP TRIGGER broken ON ${table}`);
    }
    expect([await projectOf(rows), await moveOf(rows)]).toEqual(before);
  });
});

describe('an undo', () => {
  it('bars the commit for good, and shows', async () => {
    expect(await authority.beginUndo(rows.moveId, 2)).toBe('undoing');
    expect((await moveOf(rows)).state).toBe('undoing');
    expect((await projectOf(rows)).moveStatus).toEqual({
      operationId: rows.operationId,
      state: 'undoing',
    });
    await refuses(authority.commit(commitOf(rows)), 'MOVE_UNDONE', rows);
    await refuses(authority.setState(rows.moveId, 2, 'committing'), 'MOVE_UNDONE', rows);
    expect(await authority.beginUndo(rows.moveId, 2)).toBe('undoing');
  });

  it('is not begun after the commit, nor by an older attempt', async () => {
    await refuses(authority.beginUndo(rows.moveId, 1), 'LEASE_LOST', rows);
    await authority.commit(commitOf(rows));
    expect(await authority.beginUndo(rows.moveId, 2)).toBe('committed');
    expect((await moveOf(rows)).state).toBe('committing');
  });

  it('leaves an ending as it is', async () => {
    await dataSource.manager.update(ProjectMove, rows.moveId, { state: 'failed' });
    expect(await authority.beginUndo(rows.moveId, 2)).toBe('undoing');
    expect((await moveOf(rows)).state).toBe('failed');
  });

  it('takes the mark `stuck` away', async () => {
    await dataSource.manager.update(ProjectMove, rows.moveId, { stuck: true });
    await authority.beginUndo(rows.moveId, 2);
    expect((await moveOf(rows)).stuck).toBe(false);
  });
});

describe('a state', () => {
  const show = (state: MoveState, details?: { bytes?: number; rounds?: number }) =>
    authority.setState(rows.moveId, 2, state, details);

  it('goes forward, is shown on the project, and gathers details', async () => {
    rows = await addMove({ state: 'queued' });
    await show('preparing');
    await show('copying', { bytes: 7 });
    await show('cutover', { rounds: 2 });
    expect(await moveOf(rows)).toMatchObject({
      state: 'cutover',
      stuck: false,
      details: { bytes: 7, rounds: 2 },
      endedAt: null,
    });
    expect((await projectOf(rows)).moveStatus).toMatchObject({ state: 'cutover' });
  });

  it('does not go back when a step is repeated', async () => {
    await show('copying');
    expect((await moveOf(rows)).state).toBe('committing');
  });

  it('stuck hides the state underneath and does not end the move', async () => {
    await show('stuck');
    expect(await moveOf(rows)).toMatchObject({ state: 'committing', stuck: true, endedAt: null });
    expect((await projectOf(rows)).moveStatus).toMatchObject({ state: 'stuck' });
    await show('activating');
    expect(await moveOf(rows)).toMatchObject({ state: 'activating', stuck: false });
  });

  it.each(['done', 'failed', 'canceled'] as const)('%s ends the move, once', async (ending) => {
    await show(ending);
    const { endedAt, state } = await moveOf(rows);
    expect([state, endedAt]).toEqual([ending, expect.any(Date)]);
    expect((await projectOf(rows)).moveStatus).toBeNull();
    await show(ending);
    expect((await moveOf(rows)).endedAt).toEqual(endedAt);
  });

  it('is set by the newest attempt alone', async () => {
    for (const attempt of [1, 3]) {
      await refuses(authority.setState(rows.moveId, attempt, 'activating'), 'LEASE_LOST', rows);
    }
  });

  it.each<StoredMoveState>(['undoing', 'failed', 'canceled'])(
    'does not leave %s for a step forward',
    async (state) => {
      await dataSource.manager.update(ProjectMove, rows.moveId, { state });
      await refuses(show('activating'), 'MOVE_UNDONE', rows);
      await refuses(show('queued'), 'MOVE_UNDONE', rows);
    },
  );
});

describe('the plan of a move', () => {
  it('says who, from where, where to and with which keys', async () => {
    const old = { purpose: 'ingress', publicKey: 'old', retiredAt: new Date() } as const;
    await dataSource.manager.insert(HostKey, { ...old, id: newId(), hostId: toHostId });
    const before = { purpose: 'transfer', publicKey: 'before', createdAt: new Date(0) } as const;
    const key = { ...before, id: newId(), hostId: fromHostId };
    await dataSource.manager.insert(HostKey, key);
    expect(await authority.loadMove(rows.moveId)).toMatchObject({
      moveId: rows.moveId,
      projectId: rows.projectId,
      fromHostId,
      toHostId,
      expectedGeneration: 3,
      spec: { image: 'debian:13', publicPorts: [] },
      target: { hostId: toHostId, sshHost: 'to.test', sshPort: 22, ingressKey: 'ingress of to' },
      sourceTransferKey: 'transfer of from',
      newUrl: `http://hub.test/${rows.projectId}/port/`,
    });
  });

  it('is refused without a source, and without a key', async () => {
    const archived = await addMove({ fromHostId: null });
    await refuses(authority.loadMove(archived.moveId), 'NOT_FOUND', archived);
    const keyless = newId();
    await addHost(keyless, 'keyless');
    await dataSource.manager.delete(HostKey, { hostId: keyless });
    const to = await addMove({ toHostId: keyless });
    await refuses(authority.loadMove(to.moveId), 'NOT_FOUND', to);
  });
});

describe('giving a project into the archive', () => {
  const records = () => new ProjectRepository(dataSource, new AuditService(dataSource));
  const writer = () => ({ operationId: rows.operationId, attempt: 2 });
  const archive = () =>
    records().change(
      writer(),
      { id: rows.projectId, placementGeneration: 3 },
      { state: 'archived', hostId: null },
      { unlessUndoing: true },
    );

  it('is refused to a write that comes in behind the turning back of its operation', async () => {
    const saga = (direction: string) =>
      dataSource.manager.update(Operation, rows.operationId, { saga: { direction } });
    await saga('undoing');
    await refuses(archive(), 'PROJECT_STATE_CHANGED', rows);
    await saga('forward');
    await archive();
    expect(await projectOf(rows)).toMatchObject({ state: 'archived', hostId: null });
  });

  it('is asked for only when a write whose answer was lost has ended', async () => {
    const late = dataSource.createQueryRunner();
    await late.startTransaction();
    await late.query('SELECT 1 FROM operations WHERE id = $1 FOR UPDATE', [rows.operationId]);
    await late.query(`UPDATE projects SET state = 'archived' WHERE id = $1`, [rows.projectId]);
    const asked = records().settled(writer(), rows.projectId);
    const waits = async () => {
      const [row] = await dataSource.query<{ count: number }[]>(
        `SELECT count(*)::int AS count FROM pg_stat_activity
         WHERE datname = current_database() AND wait_event_type = 'Lock'`,
      );
      return row!.count > 0;
    };
    await waitFor('the question waits', waits, { timeoutMs: 5000 });
    await late.commitTransaction();
    await late.release();
    expect((await asked).state).toBe('archived');
  });
});

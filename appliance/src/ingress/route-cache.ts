import Database, { type Database as SqliteDatabase, type Statement } from 'better-sqlite3';
import { CoreErrors, waitFor } from '@rookery/core';
import type { MoveId, ProjectListener, VerificationKey } from '@rookery/core/contract';
import { IncomingMove, MoveJournal, type OutgoingMove } from '@rookery/move';
import { RouteTable, type HostRoute } from '@rookery/proxy';
import { awaitedPorts } from '@rookery/runner/contract';

const openTimeoutMs = 120_000;
/** How soon a change is noticed when the agent's nudge is lost. */
const pollEveryMs = 100;

interface RouteRow {
  readonly id: string;
  readonly state: string;
  readonly address: string | null;
  readonly link_index: number | null;
  readonly ingress_state: 'open' | 'held' | 'moved';
  readonly started_at: number | null;
  readonly listeners: string;
  readonly starts_again_by: number | null;
}

/**
 * The host's database as the ingress sees it: read-only, and always current. `PRAGMA data_version`
 * tells in microseconds whether anyone has written since; only then is anything read again.
 */
export class RouteCache {
  private version: unknown;
  private routes: ReadonlyMap<string, HostRoute> = new Map();
  private readonly listeners = new Set<(projectId: string) => void>();
  /** Prepared: it runs for every request, and to compile it costs eight times what it does. */
  private readonly selectVersion: Statement<[], number>;
  private readonly selectRoutes: Statement<[], RouteRow>;
  private readonly selectMoved: Statement<[], { id: string; new_url: string | null }>;
  private readonly timer: NodeJS.Timeout;

  private constructor(private readonly database: SqliteDatabase) {
    this.selectVersion = database.prepare<[], number>('PRAGMA data_version').pluck();
    this.selectRoutes = database.prepare(
      `SELECT id, state, address, link_index, ingress_state, started_at, listeners, starts_again_by
       FROM projects`,
    );
    this.selectMoved = database.prepare('SELECT id, new_url FROM moved_projects');
    this.timer = setInterval(() => this.refresh(), pollEveryMs).unref();
  }

  /** Waits until the agent has made the database and the host has joined. */
  static async open(path: string, signal: AbortSignal): Promise<RouteCache> {
    const database = await waitFor('the host has joined', () => openJoined(path), {
      timeoutMs: openTimeoutMs,
      everyMs: 200,
      signal,
    });
    return new RouteCache(database);
  }

  close(): void {
    clearInterval(this.timer);
    this.database.close();
  }

  host(): { hostId: string; verificationKeys: VerificationKey[] } {
    const row = this.database
      .prepare<[], { host_id: string; verification_keys: string }>(
        'SELECT host_id, verification_keys FROM host',
      )
      .get();
    if (!row) throw CoreErrors.INTERNAL({ reason: 'the host has no identity any more' });
    return {
      hostId: row.host_id,
      verificationKeys: JSON.parse(row.verification_keys) as VerificationKey[],
    };
  }

  /** The volume that the agent has noted; the ingress is started after that. */
  volume(): string | undefined {
    const row = this.database
      .prepare<[], { identity: string }>('SELECT identity FROM volume')
      .get();
    return row?.identity;
  }

  lookup(projectId: string): HostRoute | undefined {
    this.refresh();
    return this.routes.get(projectId);
  }

  /** Calls back with each project whose route has changed, and with '' after any other change. */
  onChange(listener: (projectId: string) => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  /** Reads again what has changed. */
  refresh(): void {
    const version = this.selectVersion.get();
    if (version === this.version) return;
    this.version = version;
    const before = this.routes;
    this.routes = this.read();
    for (const id of new Set([...before.keys(), ...this.routes.keys()])) {
      if (JSON.stringify(before.get(id)) !== JSON.stringify(this.routes.get(id))) this.tell(id);
    }
    this.tell('');
  }

  incoming(moveId: MoveId): IncomingMove | undefined {
    const row = this.database
      .prepare<[string], { document: string }>(
        'SELECT document FROM incoming_moves WHERE move_id = ?',
      )
      .get(moveId);
    return row && IncomingMove.parse(JSON.parse(row.document));
  }

  listIncoming(): IncomingMove[] {
    const rows = this.database
      .prepare<[], { document: string }>('SELECT document FROM incoming_moves')
      .all();
    return rows.map(({ document }) => IncomingMove.parse(JSON.parse(document)));
  }

  private read(): Map<string, HostRoute> {
    const routes = new Map<string, HostRoute>();
    for (const { id, new_url: newUrl } of this.selectMoved.all()) {
      routes.set(id, { state: 'moved', ...(newUrl !== null && { newUrl }) });
    }
    for (const row of this.selectRoutes.all()) {
      if (row.ingress_state !== 'moved') routes.set(row.id, routeOf(row));
    }
    return routes;
  }

  private tell(projectId: string): void {
    for (const listener of this.listeners) listener(projectId);
  }
}

function routeOf(row: RouteRow): HostRoute {
  const { state, address, link_index: linkIndex, started_at: startedAt } = row;
  if (row.ingress_state === 'held') return { state: 'held' };
  if (state === 'running' && address !== null) {
    const awaited = awaitedPorts(JSON.parse(row.listeners) as ProjectListener[], startedAt ?? 0);
    return {
      state,
      address,
      ...(linkIndex !== null && { linkIndex }),
      ...(awaited.length > 0 && { awaited }),
    };
  }
  // What starts, or was stopped for a moment, answers soon: whoever asks now need not ask again.
  if (state === 'starting') return { state: 'held' };
  const { starts_again_by: until } = row;
  return until === null ? { state: 'stopped' } : { state: 'stopped', heldUntil: until };
}

function openJoined(path: string): SqliteDatabase | undefined {
  let database: SqliteDatabase | undefined;
  try {
    database = new Database(path, { readonly: true, fileMustExist: true });
    if (database.prepare('SELECT 1 FROM host').get() !== undefined) return database;
  } catch {
    // Not made yet, or its tables are not.
  }
  database?.close();
  return undefined;
}

/** The routes of the database for `@rookery/proxy`. */
export class SqliteRouteTable extends RouteTable {
  constructor(private readonly books: RouteCache) {
    super();
  }

  lookup(projectId: string): HostRoute | undefined {
    return this.books.lookup(projectId);
  }

  onChange(listener: (projectId: string) => void): () => void {
    return this.books.onChange((projectId) => {
      if (projectId !== '') listener(projectId);
    });
  }
}

/** The moves of the database, for a process that may not change them. */
export class ReadOnlyMoveJournal extends MoveJournal {
  constructor(private readonly books: RouteCache) {
    super();
  }

  async outgoing(): Promise<OutgoingMove | undefined> {
    return undefined;
  }

  async listOutgoing(): Promise<OutgoingMove[]> {
    return [];
  }

  async saveOutgoing(): Promise<void> {
    throw readOnly();
  }

  async incoming(moveId: MoveId): Promise<IncomingMove | undefined> {
    return this.books.incoming(moveId);
  }

  async listIncoming(): Promise<IncomingMove[]> {
    return this.books.listIncoming();
  }

  async saveIncoming(): Promise<void> {
    throw readOnly();
  }

  async forgottenClaim(): Promise<number> {
    throw readOnly();
  }
}

const readOnly = () => CoreErrors.INTERNAL({ reason: 'the ingress does not write' });

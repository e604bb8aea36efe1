import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from '@jest/globals';
import { wsconnect, type NatsConnection } from '@nats-io/nats-core';
import { spaceAccount, rootAccount } from '@rookery/jetstream';
import { NatsServerOracle } from '@rookery/conat/testing';
import { startTestJetStream, type TestJetStream } from '@rookery/jetstream/testing';
import { Reverter } from '@rookery/core';

/** A program says what it sees; that must be the same on each server. */
export type Program = (client: NatsConnection, said: (what: unknown) => void) => Promise<void>;

/** A real nats-server, a root space of ours, and a project of ours with unmodified clients. */
export class Everywhere {
  readonly servers: Record<'nats' | 'conat' | 'project', string>;
  private readonly stops: Record<string, () => Promise<void>>;

  private constructor(
    oracle: NatsServerOracle,
    root: TestJetStream,
    project: TestJetStream,
    readonly close: () => Promise<void>,
  ) {
    this.servers = { nats: oracle.url, conat: root.url, project: project.url };
    this.stops = {
      nats: () => oracle.restart(),
      conat: () => root.broker.drain(0),
      project: () => project.broker.drain(0),
    };
  }

  static async start(): Promise<Everywhere> {
    const undo = new Reverter();
    try {
      const folder = await mkdtemp(join(tmpdir(), 'jetstream-'));
      undo.add(() => rm(folder, { recursive: true, force: true }));
      const oracle = await NatsServerOracle.start();
      undo.add(() => oracle.close());
      const rootAccounts = [rootAccount('root', join(folder, 'root.sqlite'))];
      const root = await startTestJetStream({ jetStream: { accounts: rootAccounts } });
      undo.add(() => root.close());
      const accounts = [spaceAccount({ root: 'space', id: 'p1' }, join(folder, 'p1.sqlite'))];
      const project = await startTestJetStream({ rooted: 'p1', jetStream: { accounts } });
      undo.add(() => project.close());
      return new Everywhere(oracle, root, project, () => undo.fail());
    } catch (error) {
      await undo.fail();
      throw error;
    }
  }

  /**
   * As {@link same}; the program stops its server as an operator would, so nothing can follow.
   */
  async sameToTheEnd(
    program: (...given: [...Parameters<Program>, stop: () => Promise<void>]) => Promise<void>,
  ): Promise<void> {
    await this.same((client, said, name) => program(client, said, this.stops[name]!));
  }

  /** Runs the program on each server, with a client of its own. */
  async same(
    program: (...given: [...Parameters<Program>, name: string]) => Promise<void>,
  ): Promise<void> {
    const seen: Record<string, unknown[]> = {};
    for (const [name, url] of Object.entries(this.servers)) {
      const client = await wsconnect({ servers: url });
      const lines: unknown[] = (seen[name] = []);
      try {
        await program(client, (what) => void lines.push(what), name);
      } finally {
        await client.close();
      }
    }
    expect(seen.nats!.length).toBeGreaterThan(0);
    expect(seen.conat).toEqual(seen.nats);
    expect(seen.project).toEqual(seen.nats);
  }
}

/** The error of what must fail. */
export const errorOf = (attempt: Promise<unknown>): Promise<unknown> =>
  attempt.then(
    () => 'no error',
    (error: Error & { code?: unknown }) => [error.name, error.code, error.message],
  );

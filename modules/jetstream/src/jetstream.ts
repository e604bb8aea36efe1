import { createLogger, type Clock, type Logger, SystemClock, toCodedError } from '@rookery/core';
import { brokerRegistry, Persistence, type Broker, type InternalClient } from '@rookery/conat';
import { JetStreamErrors } from './jetstream.errors.js';
import { registerJetStream } from './jetstream-registry.js';
import type { JetStreamAccount } from './account.js';
import { AccountDirectory } from './account-directory.js';
import { AccountBinding, type AccountStatus } from './account-binding.js';
import { refuseJetStream } from './disabled-account.js';
import { apiLevel } from './engine/api-level.js';
import type { EngineInput, OutgoingMessage } from './engine/engine-io.js';
import { JetStreamCounters } from './jetstream-counters.js';
import { InlineRunner } from './workers/inline-runner.js';
import { refusal } from './workers/refusals.js';
import {
  runnerLimits,
  type AccountCommand,
  type AccountRunner,
  type AccountState,
  type CommandResult,
  type RunnerCounts,
  type RunnerLimits,
  type RunnerListener,
} from './workers/runner.js';
import { defaultThreads, ThreadRunner } from './workers/thread-runner.js';

export interface JetStreamOptions {
  /** Those that are there at the start; default: none. */
  readonly accounts?: AccountDirectory | readonly JetStreamAccount[];
  /** Threads that commit; 0 works in this one, which then waits for the disk. */
  readonly threads?: number;
  readonly limits?: Partial<RunnerLimits>;
  readonly logger?: Logger;
  readonly clock?: Clock;
  /** `off` only for the test that proves that fsync matters. */
  readonly synchronous?: 'full' | 'off';
}

interface Running {
  readonly broker: Broker;
  readonly runner: AccountRunner;
}

interface Waiting {
  readonly resolve: (state: AccountState) => void;
  readonly reject: (error: Error) => void;
}

/** Accounts that are opened at once while the process starts. */
const openAtOnce = 64;

/**
 * JetStream on a broker: brings what clients say to the accounts' engines, which run in threads,
 * and what engines say to clients. It never waits for a disk.
 */
export class JetStream extends Persistence implements RunnerListener {
  readonly apiLevel = apiLevel;
  readonly counters = new JetStreamCounters();
  private readonly clients = new Map<Broker, InternalClient>();
  private running: Running | null = null;
  private readonly logger: Logger;
  private readonly byId = new Map<string, AccountBinding>();
  private readonly byHandle = new Map<number, AccountBinding>();
  private readonly waiting = new Map<number, Waiting>();
  private lastHandle = 0;
  private lastCommand = 0;

  constructor(private readonly options: JetStreamOptions = {}) {
    super();
    this.logger = options.logger ?? createLogger('jetstream', 'warn');
  }

  /**
   * Takes up the accounts on a broker; when it resolves, their streams hear what is published. One
   * that cannot be opened answers with its error, the others are not held up.
   */
  async start(broker: Broker): Promise<void> {
    const { options } = this;
    if (this.running) throw new TypeError('JetStream has been started');
    const { threads = defaultThreads(), synchronous = 'full', accounts = [] } = options;
    const runnerOptions = { limits: { ...runnerLimits, ...options.limits }, synchronous };
    const runner =
      threads === 0
        ? new InlineRunner(this, options.clock ?? new SystemClock(), runnerOptions)
        : new ThreadRunner(this, runnerOptions, threads);
    this.running = { broker, runner };
    registerJetStream(brokerRegistry(broker), this);
    broker.beforeClosing(() => this.endPulls());
    broker.announce({ jetstream: true, api_lvl: apiLevel });
    const queue = [...(accounts instanceof AccountDirectory ? await accounts.list() : accounts)];
    const openNext = async (): Promise<void> => {
      for (let next = queue.shift(); next; next = queue.shift()) await this.open(next);
    };
    await Promise.all(Array.from({ length: openAtOnce }, openNext));
  }

  /**
   * Takes an account up; again does nothing.
   * @param fenced it stays closed until `unfence`
   * @param broker whose clients it is for: the space of an account, see `Broker.addAccount`
   */
  async open(
    account: JetStreamAccount,
    { fenced = false, broker = this.afterStart.broker } = {},
  ): Promise<AccountState> {
    const known = this.byId.get(account.id);
    if (known) return known.state;
    this.lastHandle += 1;
    const door = new AccountBinding(this.lastHandle, account, this.clientOf(broker), {
      input: (input) => this.input(door, input),
    });
    this.byId.set(account.id, door);
    this.byHandle.set(door.handle, door);
    door.state = await this.command(door, { kind: 'open', account, fenced });
    return door.state;
  }

  /** Forgets an account; its file is closed when it resolves. */
  async drop(id: string): Promise<void> {
    const door = this.byId.get(id);
    if (!door) return;
    this.byId.delete(id);
    door.close();
    await this.command(door, { kind: 'drop' });
    this.byHandle.delete(door.handle);
  }

  /**
   * Everything acknowledged is in the account's one file, which is closed when this resolves; then
   * everything is refused (ACCOUNT_FENCED, retryable) until {@link unfence}.
   * @throws ACCOUNT_UNUSABLE when that did not succeed
   */
  async fence(id: string): Promise<void> {
    const door = this.byId.get(id);
    if (!door || door.state === 'fenced') return;
    door.state = await this.command(door, { kind: 'fence' });
  }

  async unfence(id: string): Promise<void> {
    const door = this.byId.get(id);
    if (door?.state !== 'fenced') return;
    // The file may be another one than before.
    await door.relisten(
      this.command(door, { kind: 'unfence' }).then((state) => (door.state = state)),
    );
  }

  /** Answers those of an account that may not use it as nats-server does. */
  refuse(broker: Broker): void {
    refuseJetStream(this.clientOf(broker));
  }

  /** The part of a broker's that hears and says everything for its accounts. */
  private clientOf(broker: Broker): InternalClient {
    let client = this.clients.get(broker);
    if (!client) this.clients.set(broker, (client = broker.internal('jetstream')));
    return client;
  }

  private flush(): void {
    for (const client of this.clients.values()) client.flush();
  }

  has(id: string): boolean {
    return this.byId.has(id);
  }

  accounts(): JetStreamAccount[] {
    return [...this.byId.values()].map(({ account }) => account);
  }

  status(): AccountStatus[] {
    return [...this.byId.values()].map((door) => door.status());
  }

  damagedAccounts(): string[] {
    const damaged = this.status().filter(({ state }) => state === 'quarantined');
    return damaged.map(({ id }) => id);
  }

  private get runner(): AccountRunner {
    return this.afterStart.runner;
  }

  private get afterStart(): Running {
    if (!this.running) throw new TypeError('JetStream is to be started first, with its broker');
    return this.running;
  }

  /** Answers pull requests that wait, so that clients do not wait for a server that is gone. */
  private async endPulls(): Promise<void> {
    const doors = [...this.byId.values()];
    await Promise.allSettled(doors.map((door) => this.command(door, { kind: 'end-pulls' })));
    this.flush();
  }

  /** Takes nothing more, writes what waits and closes all files. */
  async close(): Promise<void> {
    if (!this.running) return;
    for (const door of this.byId.values()) door.close();
    await this.runner.close();
    for (const { reject } of this.waiting.values()) {
      reject(JetStreamErrors.ACCOUNT_UNUSABLE({ account: '', reason: 'the broker stops' }));
    }
    for (const client of this.clients.values()) client.close();
  }

  private input(door: AccountBinding, input: EngineInput): void {
    this.counters.input(input);
    if (this.runner.input(door.handle, input)) return;
    this.counters.refused += 1;
    const answer = refusal(input, JetStreamErrors.ACCOUNT_BUSY());
    if (answer) door.client.publish(answer);
  }

  private command(door: AccountBinding, what: AccountCommand): Promise<AccountState> {
    this.lastCommand += 1;
    const command = this.lastCommand;
    return new Promise<AccountState>((resolve, reject) => {
      this.waiting.set(command, { resolve, reject });
      this.runner.command(command, door.handle, what);
    }).catch((error: unknown) => {
      const { message: reason } = toCodedError(error);
      throw JetStreamErrors.ACCOUNT_UNUSABLE(
        { account: door.account.id, reason },
        { cause: error },
      );
    });
  }

  // What the runner says.

  send(account: number, message: OutgoingMessage): void {
    this.byHandle.get(account)?.client.publish(message);
  }

  saidAll(): void {
    this.flush();
  }

  listen(account: number, stream: string, subjects: readonly string[]): void {
    this.byHandle.get(account)?.listen(stream, subjects);
  }

  watch(account: number, subject: string): void {
    this.byHandle.get(account)?.watch(subject);
  }

  unwatch(account: number, subject: string): void {
    this.byHandle.get(account)?.unwatch(subject);
  }

  done(command: number, result: CommandResult): void {
    const waiting = this.waiting.get(command);
    this.waiting.delete(command);
    if ('error' in result) waiting?.reject(new Error(result.error));
    else waiting?.resolve(result.state);
  }

  quarantined(account: number, asideFile: string, reason: string): void {
    const door = this.byHandle.get(account);
    if (!door) return;
    door.state = 'quarantined';
    door.asideFile = asideFile;
    this.counters.quarantined += 1;
    this.logger.error(
      { account: door.account.id, asideFile, reason },
      'an account’s file is damaged and was put aside',
    );
  }

  problem(account: number, error: string): void {
    const id = this.byHandle.get(account)?.account.id;
    this.logger.warn({ account: id, error }, 'persistence failed');
  }

  report(counts: RunnerCounts): void {
    this.counters.report(counts);
  }
}

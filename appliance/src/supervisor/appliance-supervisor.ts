import { closeSync, constants, openSync } from 'node:fs';
import { chmod, mkdir } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import {
  CoreErrors,
  exitUnrecoverable,
  identifyProcess,
  Supervisor,
  tryFileLock,
  type Logger,
  type ProcessIdentity,
  type SupervisorEvent,
} from '@rookery/core';
import { z } from 'zod';
import type { HostConfig } from '../config/config.js';
import { endOrphan, ProcessFile } from './process-file.js';

const ingressStopMs = 15_000;
const agentStopMs = 30_000;

/** What the agent tells: its storage is open, or the ingress should look at the books. */
const AgentMessage = z.object({ kind: z.enum(['storage-open', 'books-changed']) });

/**
 * Keeps the host's two processes running.
 *
 * The agent comes first; the ingress follows when the agent has opened the storage, which both use.
 * From then on each lives and restarts by itself. On the way down the ingress goes first, so that
 * nobody knocks at a host that is closing. Containers are nobody's children: they stay.
 */
export class ApplianceSupervisor {
  private readonly processFile: ProcessFile;
  private readonly agent: Supervisor;
  private readonly ingress: Supervisor;
  private lockFd: number | undefined;
  private self: ProcessIdentity | undefined;
  private stopping: Promise<void> | undefined;
  private ended!: (exit: number) => void;
  /** Resolves with the exit status when all has stopped. */
  readonly whenEnded = new Promise<number>((resolve) => (this.ended = resolve));

  constructor(
    private readonly config: HostConfig,
    private readonly logger: Logger,
  ) {
    this.processFile = new ProcessFile(config.paths.processes);
    this.agent = this.child('agent', agentStopMs, (message) => void this.onAgentMessage(message));
    this.ingress = this.child('ingress', ingressStopMs);
  }

  /** @throws INVALID_CONFIG when another process uses the data folder */
  async start(): Promise<void> {
    const { dataDir } = this.config;
    // Containers get what is theirs by mounts: nobody else has a way through here.
    await mkdir(dataDir, { recursive: true, mode: 0o700 });
    await chmod(dataDir, 0o700);
    this.lockFd = openSync(`${dataDir}/lock`, constants.O_RDWR | constants.O_CREAT, 0o600);
    if (!tryFileLock(this.lockFd)) {
      throw CoreErrors.INVALID_CONFIG({ reason: `another host runs on ${dataDir}` });
    }
    // A supervisor that was killed may have left children that have not noticed yet.
    const before = await this.processFile.read();
    await Promise.all(Object.values(before?.children ?? {}).map((orphan) => endOrphan(orphan)));
    this.self = await identifyProcess(process.pid);
    await this.remember();
    await this.agent.start();
  }

  stop(): Promise<void> {
    return (this.stopping ??= this.stopAll(0));
  }

  private async stopAll(exit: number): Promise<void> {
    await this.ingress.stop(ingressStopMs);
    await this.agent.stop(agentStopMs);
    await this.processFile.remove();
    if (this.lockFd !== undefined) closeSync(this.lockFd);
    this.logger.info('the host has stopped; its containers run on');
    this.ended(exit);
  }

  private child(
    name: 'agent' | 'ingress',
    stopTimeoutMs: number,
    onMessage?: (message: unknown) => void,
  ): Supervisor {
    const main = fileURLToPath(new URL(`../${name}/main.js`, import.meta.url));
    return new Supervisor(
      { name, argv: [process.execPath, main] },
      {
        stopTimeoutMs,
        onEvent: (event) => void this.onEvent(event),
        ...(onMessage && { onMessage }),
      },
    );
  }

  private async onEvent(event: SupervisorEvent): Promise<void> {
    const { kind, name } = event;
    if (kind === 'started') {
      this.logger.info({ name, pid: event.identity.pid }, 'a process has started');
      await this.remember();
      return;
    }
    const { exit, signal, restartInMs } = event;
    if (this.stopping) return;
    this.logger.warn({ name, exit, signal, restartInMs }, 'a process has ended');
    if (exit === exitUnrecoverable) this.stopping = this.stopAll(exitUnrecoverable);
  }

  private async onAgentMessage(message: unknown): Promise<void> {
    const parsed = AgentMessage.safeParse(message);
    if (!parsed.success || this.stopping) return;
    switch (parsed.data.kind) {
      case 'storage-open':
        await this.ingress.start();
        break;
      case 'books-changed':
        this.ingress.send({ kind: 'books-changed' });
        break;
    }
  }

  private async remember(): Promise<void> {
    if (!this.self) return;
    const children: Record<string, ProcessIdentity> = {};
    for (const child of [this.agent, this.ingress]) {
      if (child.identity) children[child.name] = child.identity;
    }
    await this.processFile.write({ supervisor: this.self, children });
  }
}

import type { Socket } from 'node:net';
import { dial } from '../http/link-agent.js';

export interface ProbeTarget {
  readonly projectId: string;
  readonly address: string;
  /** The link that leads there. */
  readonly linkIndex?: number;
  readonly port: number;
  /** Epoch ms: after that nobody waits for it. */
  readonly until: number;
}

const pauseMs = 50;
const connectMs = 1_000;
/** Ports remembered as answering; each is of a start that is less than two minutes old. */
const answeringMax = 10_000;

interface Probe {
  wanted: number;
  timer: NodeJS.Timeout | undefined;
}

/**
 * Tries whether ports accept connections, one try at a time for each port however many wait for it,
 * and only while somebody does.
 */
export class PortProbes {
  private readonly running = new Map<string, Probe>();
  private readonly answering = new Set<string>();

  /** @param onChange told with the project when a port answers, or is not waited for any more */
  constructor(private readonly onChange: (projectId: string) => void) {}

  isAnswering(target: ProbeTarget): boolean {
    return this.answering.has(keyOf(target));
  }

  /** Keeps trying until the returned function was called by all who wanted it. */
  want(target: ProbeTarget): () => void {
    const key = keyOf(target);
    let probe = this.running.get(key);
    if (!probe) {
      probe = { wanted: 0, timer: undefined };
      this.running.set(key, probe);
      this.try(target, key, probe);
    }
    const wanted = probe;
    wanted.wanted += 1;
    return () => {
      wanted.wanted -= 1;
      if (wanted.wanted > 0) return;
      clearTimeout(wanted.timer);
      if (this.running.get(key) === wanted) this.running.delete(key);
    };
  }

  forget(projectId: string, port: number): void {
    const prefix = `${projectId} ${port} `;
    for (const key of this.answering) if (key.startsWith(prefix)) this.answering.delete(key);
  }

  close(): void {
    for (const { timer } of this.running.values()) clearTimeout(timer);
    this.running.clear();
  }

  private try(target: ProbeTarget, key: string, probe: Probe): void {
    const { address, port, projectId, until, linkIndex } = target;
    let socket: Socket | undefined;
    let settled = false;
    const settle = (answers: boolean): void => {
      if (settled) return;
      settled = true;
      socket?.destroy();
      clearTimeout(limit);
      if (answers) this.remember(key);
      if (answers || Date.now() >= until) this.onChange(projectId);
      else if (this.running.get(key) === probe) {
        probe.timer = setTimeout(() => this.try(target, key, probe), pauseMs);
      }
    };
    const limit = setTimeout(() => settle(false), connectMs);
    try {
      socket = dial(linkIndex, address, port);
    } catch {
      // The link has gone with its container.
      settle(false);
      return;
    }
    socket.once('connect', () => settle(true));
    socket.on('error', () => settle(false));
  }

  private remember(key: string): void {
    if (this.answering.size >= answeringMax) this.answering.clear();
    this.answering.add(key);
  }
}

/** `until` tells one start of a project from the next. */
const keyOf = ({ projectId, port, address, until }: ProbeTarget): string =>
  `${projectId} ${port} ${address} ${until}`;

import type { Readable } from 'node:stream';
import { CoreErrors } from '@rookery/core';
import type { MoveId, ProjectId, ProjectListener, ProjectSpec } from '@rookery/core/contract';
import { receiveCommand, type MoveTarget } from '@rookery/fleet/contract';
import {
  HostProjects,
  IngressGate,
  TransferSender,
  type HostProject,
  type TransferResult,
} from '../host.ports.js';
import { MoveErrors } from '../move.errors.js';
import type { TransferReceiver, TransferRequest } from '../transfer-receiver.js';

/** A host's projects in memory: containers are a flag, fences a row. */
export class MemoryHostProjects extends HostProjects {
  private readonly projects = new Map<ProjectId, HostProject>();
  private readonly fences = new Map<ProjectId, MoveId>();
  readonly running = new Set<ProjectId>();
  /** What a stop finds listening. */
  listeners: readonly ProjectListener[] | undefined;
  /** Where forgotten projects went. */
  readonly forgotten = new Map<ProjectId, string | undefined>();
  /** Called before a container starts; may refuse. */
  onStart: (projectId: ProjectId) => void = () => undefined;

  async get(projectId: ProjectId): Promise<HostProject | undefined> {
    const project = this.projects.get(projectId);
    const state = this.running.has(projectId) ? 'running' : 'stopped';
    const { listeners = project?.listeners ?? [] } = this;
    return project && { ...project, state, listeners };
  }

  async fenceForMove(projectId: ProjectId, moveId: MoveId): Promise<void> {
    const holder = this.fences.get(projectId);
    if (holder !== undefined && holder !== moveId) throw MoveErrors.PROJECT_MOVING();
    this.fences.set(projectId, moveId);
  }

  async unfence(projectId: ProjectId, moveId: MoveId): Promise<void> {
    if (this.fences.get(projectId) === moveId) this.fences.delete(projectId);
  }

  async isFencedBy(projectId: ProjectId): Promise<MoveId | undefined> {
    return this.fences.get(projectId);
  }

  async stopContainer(projectId: ProjectId): Promise<void> {
    this.running.delete(projectId);
  }

  async startContainer(projectId: ProjectId): Promise<void> {
    if (this.fences.has(projectId)) throw MoveErrors.PROJECT_MOVING();
    const project = this.projects.get(projectId);
    if (!project) throw CoreErrors.NOT_FOUND({ what: 'project', id: projectId });
    if (!project.desiredRunning) return;
    this.onStart(projectId);
    this.running.add(projectId);
  }

  async adopt(
    projectId: ProjectId,
    generation: number,
    spec: ProjectSpec,
    desiredRunning: boolean,
    listeners: readonly ProjectListener[] = [],
  ): Promise<void> {
    const known = this.projects.get(projectId);
    if (known && known.generation >= generation) return;
    this.projects.set(projectId, {
      projectId,
      generation,
      spec,
      state: 'stopped',
      desiredRunning,
      listeners,
      ...(spec.imageDigest !== undefined && { imageDigest: spec.imageDigest }),
    });
    this.forgotten.delete(projectId);
  }

  async forget(projectId: ProjectId, newUrl?: string): Promise<void> {
    this.projects.delete(projectId);
    this.fences.delete(projectId);
    this.running.delete(projectId);
    this.forgotten.set(projectId, newUrl);
  }
}

/** Remembers what the ingress was told. */
export class MemoryIngressGate extends IngressGate {
  readonly held = new Set<ProjectId>();
  readonly gone = new Map<ProjectId, string | undefined>();

  async hold(projectId: ProjectId): Promise<void> {
    this.held.add(projectId);
  }

  async release(projectId: ProjectId): Promise<void> {
    this.held.delete(projectId);
    this.gone.delete(projectId);
  }

  async moved(projectId: ProjectId, newUrl?: string): Promise<void> {
    this.held.delete(projectId);
    this.gone.set(projectId, newUrl);
  }
}

/** Hands streams to receivers in the same process, by the rules of the forced command. */
export class LocalTransferSender extends TransferSender {
  constructor(
    private readonly sourceHostId: string,
    private readonly sourceTransferKey: string,
    private readonly receivers: ReadonlyMap<string, TransferReceiver>,
  ) {
    super();
  }

  async send(
    target: MoveTarget,
    command: string,
    stream: Readable,
    options: { readonly signal: AbortSignal; readonly onProgress?: (sentBytes: number) => void },
  ): Promise<TransferResult> {
    const receiver = this.receivers.get(target.hostId);
    const [, moveId, kind, name] = receiveCommand.pattern.exec(command) ?? [];
    if (!receiver || moveId === undefined || name === undefined) {
      throw MoveErrors.MOVE_NOT_AUTHORIZED();
    }
    const { sourceHostId } = this;
    const allowed = await receiver.authorize(sourceHostId, this.sourceTransferKey);
    if (allowed?.includes(moveId) !== true) throw MoveErrors.MOVE_NOT_AUTHORIZED();
    let bytes = 0;
    stream.on('data', (chunk: Buffer) => {
      bytes += chunk.length;
      options.onProgress?.(bytes);
    });
    // Bytes flow once the receiver reads: it decides how fast.
    stream.pause();
    const request = { moveId, kind: kind as TransferRequest['kind'], name, sourceHostId };
    const { receivedUuid } = await receiver.receive(request, stream, options.signal);
    return { receivedUuid, bytes };
  }
}

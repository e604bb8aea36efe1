import { newId, SystemClock } from '@rookery/core';
import { loopback } from '@rookery/rpc/testing';
import { moveDestination, moveSource } from '@rookery/fleet/contract';
import {
  MoveDestinationService,
  MoveErrors,
  MoveHosts,
  MoveOptions,
  MoveSourceService,
  TransferReceiver,
  type MovePlan,
} from '@rookery/move';
import {
  LocalTransferSender,
  MemoryHostProjects,
  MemoryImageTrees,
  MemoryIngressGate,
  MemoryMoveDebts,
  MemoryMoveJournal,
  MemoryPlacementAuthority,
} from '@rookery/move/testing';
import type { StorageDriver } from '@rookery/storage/contract';

/** Puts something between a host's services and one of their ports. */
export type Wrap = <P extends object>(name: string, port: P) => P;

/** One host's side of moves over any storage. */
export class TestHost<S extends { readonly driver: StorageDriver }> {
  readonly hostId = newId();
  readonly transferKey = `ssh-ed25519 ${Buffer.from(this.hostId).toString('base64')}`;
  readonly projects = new MemoryHostProjects();
  readonly gate = new MemoryIngressGate();
  readonly journal = new MemoryMoveJournal();
  readonly clock = new SystemClock();
  readonly options: MoveOptions;
  readonly receiver: TransferReceiver;
  readonly destination: MoveDestinationService;
  readonly source: MoveSourceService;
  /** Gets an image from where it comes from; refuses unless a test says otherwise. */
  fetchImage: (digest: string) => Promise<void> = () =>
    Promise.reject(MoveErrors.MOVE_IMAGE_NOT_FETCHED({ image: 'it', reason: 'not here.' }));

  constructor(
    readonly storage: S,
    receivers: Map<string, TransferReceiver>,
    options: Partial<MoveOptions> = {},
    wrap: Wrap = (_, port) => port,
  ) {
    this.options = MoveOptions.parse({
      reserveBytes: 0,
      recheckMs: 10,
      deltaMsGoal: 0,
      ...options,
    });
    const { clock } = this;
    const parts = {
      storage: wrap('storage', storage.driver),
      projects: wrap('projects', this.projects),
      gate: wrap('gate', this.gate),
      journal: wrap('journal', this.journal),
      clock,
    };
    const local = new LocalTransferSender(this.hostId, this.transferKey, receivers);
    this.receiver = new TransferReceiver(parts, this.options);
    const images = { fetch: (_: string, digest: string) => this.fetchImage(digest) };
    this.destination = new MoveDestinationService({ ...parts, images }, this.options);
    this.source = new MoveSourceService({ ...parts, sender: wrap('sender', local) }, this.options);
    receivers.set(this.hostId, this.receiver);
  }
}

/** Two hosts, what is between them, and a project on the first. */
export class TwoHosts<S extends { readonly driver: StorageDriver }> extends MoveHosts {
  readonly authority = new MemoryPlacementAuthority();
  readonly debts = new MemoryMoveDebts();
  readonly images = new MemoryImageTrees();
  readonly projectId = newId();
  readonly moveId = newId();
  readonly spec = {
    image: 'localhost/rookery/debian:13',
    imageDigest: 'sha256:0123456789abcdef',
    quota: { diskBytes: 512 * 1024 * 1024, memoryBytes: 2 ** 30, cpus: 1, pidsMax: 100 },
    publicPorts: [],
  };
  readonly from: TestHost<S>;
  readonly to: TestHost<S>;
  /** Called before every call that reaches a host. */
  onCall: () => void = () => undefined;

  constructor(one: S, other: S, options: Partial<MoveOptions> = {}, wrap?: Wrap) {
    super();
    const receivers = new Map<string, TransferReceiver>();
    this.from = new TestHost(one, receivers, options, wrap);
    this.to = new TestHost(other, receivers, options, wrap);
  }

  async start(): Promise<void> {
    await this.from.projects.adopt(this.projectId, 1, this.spec, true);
    await this.from.projects.startContainer(this.projectId);
    this.authority.place(this.projectId, this.from.hostId, 1);
    this.plan();
  }

  plan(
    moveId: string = this.moveId,
    from: TestHost<S> = this.from,
    to: TestHost<S> = this.to,
    expectedGeneration = 1,
  ): MovePlan {
    const plan: MovePlan = {
      moveId,
      projectId: this.projectId,
      fromHostId: from.hostId,
      toHostId: to.hostId,
      expectedGeneration,
      spec: this.spec,
      target: {
        hostId: to.hostId,
        sshHost: 'localhost',
        sshPort: 22,
        ingressKey: to.transferKey,
      },
      sourceTransferKey: from.transferKey,
      newUrl: 'http://elsewhere.test/',
    };
    this.authority.add(plan);
    return plan;
  }

  get input() {
    const { moveId, projectId } = this;
    return { moveId, projectId, fromHostId: this.from.hostId, toHostId: this.to.hostId };
  }

  host(hostId: string): TestHost<S> {
    return hostId === this.from.hostId ? this.from : this.to;
  }

  override source(hostId: string) {
    this.onCall();
    return loopback(moveSource, this.host(hostId).source, { params: { hostId } });
  }

  override destination(hostId: string) {
    this.onCall();
    return loopback(moveDestination, this.host(hostId).destination, { params: { hostId } });
  }
}

import { expect } from '@jest/globals';
import type { MoveResult, SagaOutcome } from '@rookery/move';
import { SmallStorage } from './small-storage.js';
import { TwoHosts, type Wrap } from './two-hosts.js';

/** A project that writes all the time while it runs, and what it was promised. */
export class BusyWorld extends TwoHosts<SmallStorage> {
  readonly promised: Record<string, string> = { 'home/first': 'written before the move' };

  private ranTwice = false;

  constructor(wrap?: Wrap) {
    super(new SmallStorage(), new SmallStorage(), { deltaBytesGoal: 0 }, wrap);
    this.from.storage.images.add(this.spec.imageDigest);
    this.from.storage.create(this.projectId, { ...this.promised }, { stream: 'message 1' });
    // Two containers of one project would both write: never, not for a moment.
    this.from.projects.onStart = (id) => void (this.ranTwice ||= this.to.projects.running.has(id));
    this.to.projects.onStart = (id) => void (this.ranTwice ||= this.from.projects.running.has(id));
    this.onCall = () => this.write();
  }

  override async start(): Promise<void> {
    await super.start();
    await this.from.storage.createSnapshot(this.projectId, 'monday');
    this.write();
    await this.from.storage.createSnapshot(this.projectId, 'tuesday');
    this.write();
  }

  write(): void {
    const name = `home/${Object.keys(this.promised).length}`;
    for (const host of [this.from, this.to]) {
      if (!host.projects.running.has(this.projectId)) continue;
      host.storage.write(this.projectId, { [name]: 'x' });
      this.promised[name] = 'x';
    }
  }

  /** What each host's reconciler does: runs what is wanted running and not fenced. */
  async reconcile(): Promise<void> {
    for (const { projects } of [this.from, this.to]) {
      if ((await projects.isFencedBy(this.projectId)) !== undefined) continue;
      if (await projects.get(this.projectId)) await projects.startContainer(this.projectId);
    }
  }

  /** One owner, no lost write, no orphan: on both hosts. */
  async check(outcome: SagaOutcome<MoveResult>): Promise<void> {
    const moved = outcome.status === 'succeeded';
    const [owner, other] = moved ? [this.to, this.from] : [this.from, this.to];
    const generation = moved ? 2 : 1;
    expect(this.ranTwice).toBe(false);
    expect(this.authority.owner(this.projectId)).toEqual({ hostId: owner.hostId, generation });
    expect(await owner.projects.get(this.projectId)).toMatchObject({
      generation,
      state: 'running',
    });
    expect(await other.projects.get(this.projectId)).toBeUndefined();
    expect(other.storage.volumes.size).toBe(0);
    for (const host of [owner, other]) {
      expect(host.projects.running.has(this.projectId)).toBe(host === owner);
      expect(await host.projects.isFencedBy(this.projectId)).toBeUndefined();
      expect(host.gate.held.size).toBe(0);
      expect(host.storage.landings.size).toBe(0);
      expect(await host.storage.listTemporarySnapshots(this.projectId)).toEqual([]);
    }
    const volume = owner.storage.volumes.get(this.projectId);
    expect(volume?.live).toEqual(this.promised);
    expect(volume?.persistence).toEqual({ stream: 'message 1' });
    expect([...(volume?.snapshots.keys() ?? [])]).toEqual(['monday', 'tuesday']);
    expect(volume?.quotaBytes).toBe(moved ? this.spec.quota.diskBytes : 1000);
    if (moved) {
      expect(this.to.storage.images.has(this.spec.imageDigest)).toBe(true);
      expect(this.from.gate.gone.get(this.projectId)).toBe('http://elsewhere.test/');
    }
    expect(this.authority.state(this.moveId)).toBe(moved ? 'done' : outcome.status);
  }
}

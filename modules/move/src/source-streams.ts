import type { Progress, ProjectId } from '@rookery/core/contract';
import type { Snapshot, StorageDriver, StreamSource } from '@rookery/storage/contract';
import { CodedError, type Clock } from '@rookery/core';
import {
  landingItem,
  receiveCommand,
  type MoveStream,
  type MoveTarget,
} from '@rookery/fleet/contract';
import type { TransferSender } from './host.ports.js';
import type { MoveRound, OutgoingMove } from './move.journal.js';
import type { OutgoingRows } from './outgoing-rows.js';
import { MoveErrors } from './move.errors.js';

export interface SourceStreamsOptions {
  readonly storage: StorageDriver;
  readonly sender: TransferSender;
  readonly rows: OutgoingRows;
  readonly target: MoveTarget;
  readonly clock: Clock;
  readonly signal: AbortSignal;
  readonly progress: (progress: Progress) => void;
}

/** Each line of progress is a message to the hub and a row written there. */
const progressEveryMs = 250;

/**
 * The streams of one outgoing move, within one request: what was sent, what goes next, and against
 * which parent. Everything that arrived is in the journal, so a later request goes on behind it.
 */
export class SourceStreams {
  /** Bytes sent by this request. */
  sentBytes = 0;

  constructor(
    public move: OutgoingMove,
    private readonly options: SourceStreamsOptions,
  ) {}

  async sendImage(digest: string): Promise<void> {
    await this.send({ kind: 'image', name: digest }, { kind: 'image', digest });
  }

  /**
   * Sends snapshots that the destination lacks, oldest first, each relative to the one before.
   * @returns all snapshots of the project, all of them arrived
   */
  async sendSnapshots(): Promise<Snapshot[]> {
    const { storage } = this.options;
    for (;;) {
      const snapshots = await this.snapshots();
      const next = snapshots.find((each) => !this.arrived({ kind: 'snapshot', name: each.uuid }));
      if (!next) return snapshots;
      const parent = this.newestArrived(snapshots.filter((s) => s.generation < next.generation));
      try {
        await this.send(
          { kind: 'snapshot', name: next.uuid },
          { kind: 'snapshot', projectId: next.projectId, name: next.name },
          parent && snapshotSource(parent),
        );
      } catch (error) {
        // Its user or the schedule may remove a snapshot while it, or the one before, is read.
        const left = await storage.listSnapshots(this.move.projectId);
        const gone = [next, parent].some((each) => each && !left.some((s) => s.uuid === each.uuid));
        if (!gone || this.options.signal.aborted) throw error;
      }
    }
  }

  /** Takes the picture `name` and sends it with its persistence, relative to the last that arrived. */
  async sendTemporarySnapshot(name: string): Promise<MoveRound> {
    const { storage } = this.options;
    const { projectId } = this.move;
    const sentBefore = this.sentBytes;
    // Claimed before it exists: whatever happens now, an undo knows what to drop.
    if (!this.move.pictures.includes(name)) {
      await this.save({ pictures: [...this.move.pictures, name] });
    }
    const picture = await storage.freeze(projectId, name);
    const parent = await this.parentTemporarySnapshot(name);
    await this.send(
      { kind: 'persistence', name: picture.persistenceUuid },
      { kind: 'persistence', projectId, name },
      parent && { kind: 'persistence', projectId, name: parent.name },
    );
    await this.send(
      { kind: 'delta', name: picture.uuid },
      { kind: 'frozen', projectId, name },
      parent ? { kind: 'frozen', projectId, name: parent.name } : await this.parentSnapshot(),
    );
    const { uuid, persistenceUuid } = picture;
    return { name, uuid, persistenceUuid, bytes: this.sentBytes - sentBefore };
  }

  /** Refused once this request was overtaken. */
  async save(change: Partial<OutgoingMove>): Promise<void> {
    this.options.signal.throwIfAborted();
    this.move = await this.options.rows.update(this.move.moveId, change);
  }

  private async send(
    stream: MoveStream,
    source: StreamSource,
    parent?: StreamSource,
  ): Promise<void> {
    if (this.arrived(stream)) return;
    const { storage, sender, target, signal, progress } = this.options;
    signal.throwIfAborted();
    const command = receiveCommand.format(this.move.moveId, stream.kind, stream.name);
    const bytes = storage.send(source, { signal, ...(parent && { parent }) });
    try {
      const before = this.sentBytes;
      let shownAt = -Infinity;
      const show = (sent: number): void => {
        const now = this.options.clock.now();
        if (now - shownAt < progressEveryMs) return;
        shownAt = now;
        progress({ step: 'send', done: before + sent, unit: 'bytes', message: stream.kind });
      };
      const result = await sender
        .send(target, command, bytes, { signal, onProgress: show })
        .catch(namingTheSide);
      if (stream.kind !== 'image' && result.receivedUuid !== stream.name) {
        throw MoveErrors.MOVE_VERIFY_FAILED({
          reason: `${landingItem(stream)} arrived as ${result.receivedUuid}`,
        });
      }
      this.sentBytes += result.bytes;
      await this.save({
        confirmed: [...this.move.confirmed, { ...stream, bytes: result.bytes }],
      });
    } finally {
      // Ends the sending process when the other side stopped listening.
      bytes.destroy();
    }
  }

  private arrived(stream: MoveStream): boolean {
    const item = landingItem(stream);
    return this.move.confirmed.some((each) => landingItem(each) === item);
  }

  /** The last round whose picture is still here, unchanged. */
  private async parentTemporarySnapshot(except: string): Promise<MoveRound | undefined> {
    const here = await this.options.storage.listTemporarySnapshots(this.move.projectId);
    return this.move.rounds.findLast(
      (round) =>
        round.name !== except &&
        here.some((each) => each.name === round.name && each.uuid === round.uuid),
    );
  }

  private async parentSnapshot(): Promise<StreamSource | undefined> {
    const newest = this.newestArrived(await this.snapshots());
    return newest && snapshotSource(newest);
  }

  private newestArrived(snapshots: readonly Snapshot[]): Snapshot | undefined {
    return snapshots.findLast((each) => this.arrived({ kind: 'snapshot', name: each.uuid }));
  }

  private async snapshots(): Promise<Snapshot[]> {
    const snapshots = await this.options.storage.listSnapshots(this.move.projectId);
    return snapshots.toSorted((a, b) => a.generation - b.generation);
  }
}

/** Drops pictures of a project; those that are gone already are no matter. */
export async function dropTemporarySnapshots(
  storage: StorageDriver,
  projectId: ProjectId,
  names: readonly string[],
): Promise<void> {
  if (names.length === 0 || !(await storage.volume(projectId))) return;
  const here = await storage.listTemporarySnapshots(projectId).catch((error: unknown) => {
    if (CodedError.is(error, 'VOLUME_NOT_FOUND')) return [];
    throw error;
  });
  for (const { name } of here) {
    if (!names.includes(name)) continue;
    // Freezing again gives the picture that is there.
    const picture = await storage.freeze(projectId, name);
    await picture.release();
  }
}

const snapshotSource = ({ projectId, name }: Snapshot): StreamSource => ({
  kind: 'snapshot',
  projectId,
  name,
});

/** The receiver's DISK_FULL, seen here, would be taken for this host's. */
function namingTheSide(error: unknown): never {
  if (!CodedError.is(error, 'DISK_FULL')) throw error;
  const message = 'The destination ran full while the project arrived. Choose another host.';
  throw MoveErrors.DESTINATION_FULL({}, { cause: error, message });
}

import { closeSync, constants, openSync } from 'node:fs';
import { rename } from 'node:fs/promises';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { MoveId, ProjectId } from '@rookery/core/contract';
import {
  CodedError,
  CoreErrors,
  parseInput,
  tryFileLock,
  waitFor,
  type ProcessEnd,
} from '@rookery/core';
import { namesIn } from '../files.js';
import { LandingItem, type VolumeLayout } from '../layout.js';
import type { ReceivedSubvolume } from '../storage.driver.js';
import { StorageErrors } from '../storage.errors.js';
import { spaceErrorOf } from '../space.js';
import type { BtrfsProgram } from './btrfs-program.js';
import { subvolumeAt } from './ioctl.js';
import type { DiskReserve } from './disk-reserve.js';
import { RoomGuard } from './room-guard.js';
import type { Qgroups } from './qgroups.js';
import { SendStreamGuard } from './send-stream-guard.js';
import type { Subvolumes } from './subvolumes.js';

/**
 * In front of the name of what arrived whole. No stream can name its subvolume so: what lies in a
 * landing area without it was cut off, whatever flags it carries.
 */
const wholePrefix = '=';
/** How long a receive waits for the end of another of the same move (its connection died). */
const landingLockTimeoutMs = 30_000;

/** `_incoming/<move>`: a subvolume in the project's group, where a move's streams arrive. */
export class Landings {
  constructor(
    private readonly btrfs: BtrfsProgram,
    private readonly layout: VolumeLayout,
    private readonly qgroups: Qgroups,
    private readonly subvolumes: Subvolumes,
    private readonly reserve: DiskReserve,
  ) {}

  async prepare(moveId: MoveId, id: ProjectId): Promise<void> {
    const path = this.layout.landing(moveId);
    if (subvolumeAt(path)) return;
    const group = await this.qgroups.ensureGroup(id);
    await this.btrfs.createSubvolume(path, group);
  }

  async receive(
    stream: Readable,
    moveId: MoveId,
    item: string,
    signal: AbortSignal | undefined,
  ): Promise<ReceivedSubvolume> {
    parseInput(LandingItem, item);
    // A sender that fails while we wait shows in the pipeline, not as an unhandled error.
    stream.once('error', () => undefined);
    if (!subvolumeAt(this.layout.landing(moveId))) {
      stream.destroy();
      throw StorageErrors.LANDING_NOT_FOUND({ moveId });
    }
    return this.locked(moveId, signal, async () => {
      await this.dropHalfReceived(moveId);
      const guard = new SendStreamGuard(item);
      let received: string;
      try {
        received = await this.receiveInto(this.layout.landing(moveId), stream, guard, signal);
        // The UUID and the read-only flag are committed without the files' data, which may still lie
        // in memory: the name that says "whole" comes after the data, and is confirmed when it is on
        // disk itself. Without the first sync a power cut would leave a whole item of empty files.
        await this.btrfs.sync();
        // Only what is on disk counts as taken: a stream may end before any of it does.
        await this.reserve.requireRoom();
      } catch (error) {
        await this.dropHalfReceived(moveId);
        throw error;
      }
      const target = this.wholePath(moveId, item);
      // The same item once more (its reply was lost) replaces the first.
      await this.subvolumes.deleteTree(target);
      await rename(received, target);
      await this.btrfs.sync();
      return landedView(item, target) as ReceivedSubvolume;
    });
  }

  /** Runs one receive in a folder of root's. @returns the path of what arrived whole. */
  async receiveInto(
    landing: string,
    stream: Readable,
    guard: SendStreamGuard,
    signal: AbortSignal | undefined,
  ): Promise<string> {
    const stop = new AbortController();
    const process = this.btrfs.receive(
      landing,
      AbortSignal.any([stop.signal, ...(signal ? [signal] : [])]),
    );
    process.stdout.resume();
    let failure: unknown;
    try {
      const room = new RoomGuard(() => this.reserve.requireRoom());
      await pipeline(stream, guard, room, process.stdin, signal ? { signal } : {});
    } catch (error) {
      failure = error;
    }
    // A receiver that already failed explains a broken pipe; one that waits is of no use any more.
    if (failure !== undefined && !isBrokenPipe(failure)) stop.abort();
    const end = await process.ended;
    // With -e the receiver leaves at the end marker, maybe before its input is closed: that is no cut.
    if (end.exit === 0 && guard.isWhole && isBrokenPipe(failure)) failure = undefined;
    if (signal?.aborted) throw CoreErrors.CANCELED({}, { cause: signal.reason });
    if (end.error) throw CoreErrors.COMMAND_MISSING({ command: 'btrfs' }, { cause: end.error });
    if (CodedError.is(failure)) throw failure;
    const broken = brokenOff(end, failure);
    if (broken !== undefined) {
      const details = { item: guard.item, reason: broken };
      throw StorageErrors.STREAM_BROKEN(details, { cause: failure });
    }
    if (end.exit !== 0 || failure !== undefined) {
      const reason = (end.stderr.trim() || String(failure)).slice(-300);
      throw (
        spaceErrorOf(end.stderr, this.layout.volume, failure) ??
        StorageErrors.STREAM_INVALID({ item: guard.item, reason }, { cause: failure })
      );
    }
    const path = join(landing, guard.name ?? '');
    const subvolume = subvolumeAt(path);
    if (!subvolume?.readOnly || subvolume.receivedUuid === undefined) {
      throw StorageErrors.STREAM_INVALID({ item: guard.item, reason: 'nothing whole arrived' });
    }
    await this.qgroups.joinGroupOf(landing, path);
    return path;
  }

  async list(moveId: MoveId): Promise<ReceivedSubvolume[]> {
    const names = await namesIn(this.layout.landing(moveId));
    return names
      .filter((name) => name.startsWith(wholePrefix))
      .map((name) => landedView(name.slice(1), join(this.layout.landing(moveId), name)))
      .filter((view) => view !== undefined);
  }

  /** Path of an item that arrived whole. @throws LANDING_INCOMPLETE */
  arrived(moveId: MoveId, item: string): string {
    const path = this.wholePath(moveId, item);
    if (!subvolumeAt(path)) throw StorageErrors.LANDING_INCOMPLETE({ moveId, item });
    return path;
  }

  /** One item alone, when it turns out to be of no use. */
  async dropItem(moveId: MoveId, item: string): Promise<void> {
    const path = this.wholePath(moveId, item);
    if (!subvolumeAt(path)) return;
    await this.locked(moveId, undefined, () => this.subvolumes.deleteTree(path));
  }

  async drop(moveId: MoveId): Promise<void> {
    const path = this.layout.landing(moveId);
    if (!subvolumeAt(path)) return;
    this.qgroups.giveUpAround(path);
    await this.locked(moveId, undefined, () => this.subvolumes.discard(path));
  }

  /** Removes what was cut off, unless a receive is under way. @returns how many there were */
  async dropHalfReceivedIfIdle(moveId: MoveId): Promise<number> {
    const fd = openLanding(this.layout.landing(moveId));
    try {
      return tryFileLock(fd) ? await this.dropHalfReceived(moveId) : 0;
    } finally {
      closeSync(fd);
    }
  }

  /** Whether a receive or activation is under way, in this process or another. */
  isBusy(moveId: MoveId): boolean {
    const fd = openLanding(this.layout.landing(moveId));
    try {
      return !tryFileLock(fd);
    } finally {
      closeSync(fd);
    }
  }

  async hasHalfReceived(moveId: MoveId): Promise<boolean> {
    return (await this.halfReceived(moveId)).length > 0;
  }

  private async halfReceived(moveId: MoveId): Promise<string[]> {
    const names = await namesIn(this.layout.landing(moveId));
    return names.filter((name) => !name.startsWith(wholePrefix));
  }

  private async dropHalfReceived(moveId: MoveId): Promise<number> {
    const half = await this.halfReceived(moveId);
    for (const name of half) {
      await this.subvolumes.deleteTree(join(this.layout.landing(moveId), name));
    }
    return half.length;
  }

  /** One at a time a landing area, across processes: the kernel gives a dead one's lock back. */
  private async locked<T>(
    moveId: MoveId,
    signal: AbortSignal | undefined,
    task: () => Promise<T>,
  ): Promise<T> {
    const fd = openLanding(this.layout.landing(moveId));
    try {
      await waitFor(
        `the landing area of move ${moveId} is free`,
        () => signal?.aborted === true || tryFileLock(fd),
        { timeoutMs: landingLockTimeoutMs },
      );
      if (signal?.aborted) throw CoreErrors.CANCELED({}, { cause: signal.reason });
      return await task();
    } finally {
      closeSync(fd);
    }
  }

  private wholePath(moveId: MoveId, item: string): string {
    return join(this.layout.landing(moveId), wholePrefix + parseInput(LandingItem, item));
  }
}

function landedView(item: string, path: string): ReceivedSubvolume | undefined {
  const subvolume = subvolumeAt(path);
  if (!subvolume) return undefined;
  return {
    item,
    receivedUuid: subvolume.receivedUuid ?? '',
    readOnly: subvolume.readOnly,
  };
}

function openLanding(path: string): number {
  return openSync(path, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW);
}

/** Why the receive ended from outside, which says nothing about the stream; else undefined. */
function brokenOff(end: ProcessEnd, failure: unknown): string | undefined {
  if (failure !== undefined && !isBrokenPipe(failure)) {
    return failure instanceof Error ? failure.message : 'its sender broke it off';
  }
  return end.signal === null ? undefined : `btrfs receive was ended by ${end.signal}`;
}

function isBrokenPipe(error: unknown): boolean {
  const code = (error as NodeJS.ErrnoException | undefined)?.code;
  return code === 'EPIPE' || code === 'ERR_STREAM_PREMATURE_CLOSE' || code === 'ECONNRESET';
}

import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import type { MoveId } from '@rookery/core/contract';
import { parseInput } from '@rookery/core';
import { LandingItem, type VolumeLayout } from '../layout.js';
import type { ReceivedSubvolume } from '../storage.driver.js';
import { StorageErrors } from '../storage.errors.js';
import { readFolderStream, unpackFolder } from './folder-stream.js';

/** Where the streams of moves arrive: folders, and what is known of each. */
export class MemoryLandings {
  private readonly areas = new Map<MoveId, Map<string, ReceivedSubvolume>>();

  constructor(private readonly layout: VolumeLayout) {}

  get ids(): MoveId[] {
    return [...this.areas.keys()];
  }

  async prepare(moveId: MoveId): Promise<void> {
    await mkdir(this.layout.landing(moveId), { recursive: true });
    if (!this.areas.has(moveId)) this.areas.set(moveId, new Map());
  }

  async receive(
    stream: Readable,
    { moveId, item }: { moveId: MoveId; item: string },
    signal: AbortSignal | undefined,
  ): Promise<ReceivedSubvolume> {
    parseInput(LandingItem, item);
    const area = this.areas.get(moveId);
    if (!area) throw StorageErrors.LANDING_NOT_FOUND({ moveId });
    const parsed = await readFolderStream(stream, item, signal);
    const { uuid, parentUuid } = parsed;
    const held = [...area.values()].some((each) => each.receivedUuid === parentUuid);
    if (parentUuid !== undefined && !held) {
      throw StorageErrors.STREAM_INVALID({ item, reason: 'its parent is not here' });
    }
    const target = join(this.layout.landing(moveId), item);
    await rm(target, { recursive: true, force: true });
    await unpackFolder(parsed, target);
    const received = { item, receivedUuid: uuid, readOnly: true };
    area.set(item, received);
    return received;
  }

  list(moveId: MoveId): ReceivedSubvolume[] {
    return [...(this.areas.get(moveId)?.values() ?? [])];
  }

  /** @throws LANDING_INCOMPLETE */
  arrived(moveId: MoveId, item: string): { uuid: string; path: string } {
    const received = this.areas.get(moveId)?.get(item);
    if (!received) throw StorageErrors.LANDING_INCOMPLETE({ moveId, item });
    return { uuid: received.receivedUuid, path: join(this.layout.landing(moveId), item) };
  }

  async dropItem(moveId: MoveId, item: string): Promise<void> {
    this.areas.get(moveId)?.delete(item);
    await rm(join(this.layout.landing(moveId), item), { recursive: true, force: true });
  }

  async drop(moveId: MoveId): Promise<void> {
    this.areas.delete(moveId);
    await rm(this.layout.landing(moveId), { recursive: true, force: true });
  }
}

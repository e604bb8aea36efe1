import { createHash } from 'node:crypto';
import { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { CodedError, newId } from '@rookery/core';
import type {
  ActivationPlan,
  LandedImage,
  ReceivedSubvolume,
  SendOptions,
  Snapshot,
  StorageDriver,
  StreamSource,
} from '@rookery/storage/contract';

type Files = Readonly<Record<string, string>>;
interface Picture {
  uuid: string;
  files: Files;
}
interface SmallVolume {
  live: Files;
  persistence: Files;
  quotaBytes: number;
  snapshots: Map<string, Picture & { generation: number; locked: boolean }>;
}
interface Landing {
  projectId: string;
  items: Map<string, Picture & { readOnly: boolean }>;
  activated: boolean;
}
type Sent = Exclude<StreamSource, { kind: 'image' }>;
interface Message {
  uuid: string;
  parent?: string;
  files: Files;
}

const coded = (code: string, status = 404): CodedError =>
  new CodedError({ code, message: code, status, retryable: false });

/** What an untouched image holds. */
export const treeOf = (digest: string): string =>
  `tree1:${createHash('sha256').update(digest).digest('hex')}`;

/**
 * As much of a storage driver as a move uses, over plain objects; what the move's tests break on
 * purpose (a truncated stream, a full disk, a missing parent) fails here as it does on btrfs.
 */
export class SmallStorage {
  readonly capabilities = { snapshots: true, quota: 'none', sendReceive: true, sendProtocol: 2 };
  readonly volumes = new Map<string, SmallVolume>();
  readonly frozen = new Map<string, Map<string, { live: Picture; persistence: Picture }>>();
  readonly landings = new Map<string, Landing>();
  readonly images = new Set<string>();
  /** Images that somebody has changed. */
  readonly tampered = new Set<string>();
  readonly sent: { kind: string; incremental: boolean }[] = [];
  freeBytes = 1e12;
  private generation = 0;

  get driver(): StorageDriver {
    return this as unknown as StorageDriver;
  }

  create(id: string, files: Files, persistence: Files): void {
    this.volumes.set(id, { live: files, persistence, quotaBytes: 1000, snapshots: new Map() });
  }

  write(id: string, files: Files): void {
    const volume = this.get(id);
    volume.live = { ...volume.live, ...files };
  }

  async space(): Promise<{ totalBytes: number; freeBytes: number }> {
    return { totalBytes: 1e12, freeBytes: this.freeBytes };
  }

  async usage(id: string): Promise<{ usedBytes: number }> {
    return { usedBytes: JSON.stringify(this.get(id).live).length };
  }

  async volume(id: string): Promise<object | undefined> {
    return this.volumes.has(id) ? { projectId: id } : undefined;
  }

  async deleteVolume(id: string): Promise<void> {
    this.volumes.delete(id);
    this.frozen.delete(id);
  }

  async createSnapshot(id: string, name: string): Promise<Snapshot> {
    this.generation += 1;
    const { live, snapshots } = this.get(id);
    snapshots.set(name, {
      uuid: newId(),
      files: live,
      generation: this.generation,
      locked: false,
    });
    return (await this.listSnapshots(id)).find((each) => each.name === name)!;
  }

  async listSnapshots(id: string): Promise<Snapshot[]> {
    return [...this.get(id).snapshots].map(([name, { uuid, generation, locked }]) => ({
      projectId: id,
      name,
      uuid,
      generation,
      locked,
      createdAt: generation,
    }));
  }

  async deleteSnapshot(id: string, name: string): Promise<void> {
    this.get(id).snapshots.delete(name);
  }

  async freeze(id: string, name: string): Promise<object> {
    const { live, persistence } = this.get(id);
    const pictures = this.frozen.get(id) ?? new Map<string, never>();
    this.frozen.set(id, pictures);
    const picture = pictures.get(name) ?? {
      live: { uuid: newId(), files: live },
      persistence: { uuid: newId(), files: persistence },
    };
    pictures.set(name, picture);
    return {
      projectId: id,
      name,
      uuid: picture.live.uuid,
      persistenceUuid: picture.persistence.uuid,
      release: async () => void pictures.delete(name),
    };
  }

  async listTemporarySnapshots(
    id: string,
  ): Promise<{ name: string; uuid: string; createdAt: number }[]> {
    return [...(this.frozen.get(id) ?? [])].map(([name, { live }]) => ({
      name,
      uuid: live.uuid,
      createdAt: 0,
    }));
  }

  send(source: StreamSource, options: SendOptions = {}): Readable {
    if (source.kind === 'image') return Readable.from(this.imageStream(source.digest));
    this.sent.push({ kind: source.kind, incremental: options.parent !== undefined });
    try {
      const { uuid, files } = this.find(source);
      const parent = options.parent && this.find(options.parent as Sent).uuid;
      const message: Message = { uuid, files, ...(parent !== undefined && { parent }) };
      return Readable.from([Buffer.from(JSON.stringify(message))]);
    } catch (error) {
      const broken = new Readable({ read: () => undefined });
      broken.destroy(error as Error);
      return broken;
    }
  }

  async prepareLanding(moveId: string, projectId: string): Promise<void> {
    if (!this.landings.has(moveId)) {
      this.landings.set(moveId, { projectId, items: new Map(), activated: false });
    }
  }

  async receive(
    stream: Readable,
    { moveId, item }: { moveId: string; item: string },
    _options?: { signal?: AbortSignal },
  ): Promise<ReceivedSubvolume> {
    const landing = this.landings.get(moveId);
    if (!landing) throw coded('LANDING_NOT_FOUND');
    const message = await text(stream).then((body) => JSON.parse(body) as Message);
    const parents = [...landing.items.values()].map(({ uuid }) => uuid);
    if (message.parent !== undefined && !parents.includes(message.parent)) {
      throw coded('STREAM_INVALID', 400);
    }
    if (JSON.stringify(message.files).length > this.freeBytes) throw coded('DISK_FULL', 507);
    landing.items.set(item, { uuid: message.uuid, files: message.files, readOnly: true });
    return { item, receivedUuid: message.uuid, readOnly: true };
  }

  async listLanding(moveId: string): Promise<ReceivedSubvolume[]> {
    return [...(this.landings.get(moveId)?.items ?? [])].map(([item, { uuid, readOnly }]) => ({
      item,
      receivedUuid: uuid,
      readOnly,
    }));
  }

  async activateLanding(
    moveId: string,
    id: string,
    plan: ActivationPlan,
  ): Promise<{ overQuota: boolean }> {
    const landing = this.landings.get(moveId);
    if (!landing) {
      if (!this.volumes.has(id)) throw coded('LANDING_NOT_FOUND');
      return { overQuota: false };
    }
    const item = (name: string): Picture => {
      const found = landing.items.get(name);
      if (!found) throw coded('LANDING_INCOMPLETE', 409);
      return found;
    };
    const snapshots = plan.snapshots.map(({ item: from, name, locked }) => {
      this.generation += 1;
      return [name, { ...item(from), generation: this.generation, locked }] as const;
    });
    this.volumes.set(id, {
      live: item(plan.live).files,
      persistence: plan.persistence === undefined ? {} : item(plan.persistence).files,
      quotaBytes: plan.quotaBytes,
      snapshots: new Map(snapshots),
    });
    return { overQuota: false };
  }

  async dropLanding(moveId: string): Promise<void> {
    this.landings.delete(moveId);
  }

  async adoptImage(image: LandedImage): Promise<void> {
    if (this.images.has(image.digest)) return;
    const items = this.landings.get(image.moveId)?.items;
    const found = items?.get(image.item)?.files['tree'];
    if (found !== image.treeDigest) {
      items?.delete(image.item);
      throw coded('IMAGE_DIFFERS', 502);
    }
    this.images.add(image.digest);
  }

  async imageTree(digest: string): Promise<string | undefined> {
    if (!this.images.has(digest)) return undefined;
    return treeOf(this.tampered.has(digest) ? `${digest}, tampered with` : digest);
  }

  async imagePath(digest: string): Promise<string | undefined> {
    return this.images.has(digest) ? `/images/${digest}` : undefined;
  }

  private async *imageStream(digest: string): AsyncGenerator<Buffer> {
    this.sent.push({ kind: 'image', incremental: false });
    const files = { tree: (await this.imageTree(digest)) ?? '' };
    yield Buffer.from(JSON.stringify({ uuid: newId(), files }));
  }

  private find(source: Sent): Picture {
    const { kind, projectId, name } = source;
    const picture = this.frozen.get(projectId)?.get(name);
    const found = {
      snapshot: () => this.get(projectId).snapshots.get(name),
      frozen: () => picture?.live,
      persistence: () => picture?.persistence,
    }[kind]();
    if (!found) throw coded('SNAPSHOT_NOT_FOUND');
    return found;
  }

  private get(id: string): SmallVolume {
    const volume = this.volumes.get(id);
    if (!volume) throw coded('VOLUME_NOT_FOUND');
    return volume;
  }
}

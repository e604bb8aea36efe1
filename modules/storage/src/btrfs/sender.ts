import { Readable } from 'node:stream';
import type { ProjectId } from '@rookery/core/contract';
import { CoreErrors } from '@rookery/core';
import type { VolumeLayout } from '../layout.js';
import type { SendOptions, StreamSource } from '../storage.driver.js';
import { StorageErrors } from '../storage.errors.js';
import type { BtrfsProgram } from './btrfs-program.js';
import { subvolumeAt } from './ioctl.js';

/** Makes streams of read-only subvolumes. */
export class Sender {
  /** Of the send stream: 2 carries compressed data as it is. */
  protocol = 1;
  /** Sends that read a snapshot now, per project: a restore would move it under their hands. */
  private readonly sending = new Map<ProjectId, number>();

  constructor(
    private readonly btrfs: BtrfsProgram,
    private readonly layout: VolumeLayout,
  ) {}

  readsSnapshots(id: ProjectId): boolean {
    return this.sending.has(id);
  }

  send(source: StreamSource, options: SendOptions): Readable {
    // The process starts with the first read, so an error never comes before its listener.
    const gone = new AbortController();
    const signals = [gone.signal, ...(options.signal ? [options.signal] : [])];
    const chunks = this.sendChunks(source, { ...options, signal: AbortSignal.any(signals) });
    const output = Readable.from(chunks, { objectMode: false });
    output.once('close', () => gone.abort());
    return output;
  }

  /** Fails unless `btrfs send` ended well: an end that is not one is never shown. */
  private async *sendChunks(
    source: StreamSource,
    options: SendOptions & { signal: AbortSignal },
  ): AsyncGenerator<Buffer> {
    const path = this.sourcePath(source);
    const parent = options.parent && this.sourcePath(options.parent);
    const done = this.holdSending([source, options.parent]);
    try {
      const process = this.btrfs.send(path, {
        protocol: this.protocol,
        signal: options.signal,
        ...(parent !== undefined && { parent }),
      });
      process.stdin.end();
      for await (const chunk of process.stdout) yield chunk as Buffer;
      const end = await process.ended;
      if (options.signal.aborted) throw CoreErrors.CANCELED({}, { cause: options.signal.reason });
      if (end.exit !== 0) {
        const reason = end.error?.message ?? end.stderr.trim().slice(-300);
        throw StorageErrors.STREAM_INVALID({ item: path, reason: `sending failed: ${reason}` });
      }
    } finally {
      done();
    }
  }

  private holdSending(sources: readonly (StreamSource | undefined)[]): () => void {
    const snapshot = sources.find((source) => source?.kind === 'snapshot');
    if (snapshot?.kind !== 'snapshot') return () => undefined;
    const { projectId } = snapshot;
    this.sending.set(projectId, (this.sending.get(projectId) ?? 0) + 1);
    return () => {
      const left = (this.sending.get(projectId) ?? 1) - 1;
      if (left > 0) this.sending.set(projectId, left);
      else this.sending.delete(projectId);
    };
  }

  private sourcePath(source: StreamSource): string {
    const path = this.pathOf(source);
    if (subvolumeAt(path)?.readOnly) return path;
    if (source.kind === 'image') throw StorageErrors.IMAGE_NOT_FOUND({ digest: source.digest });
    throw StorageErrors.SNAPSHOT_NOT_FOUND({ name: source.name });
  }

  private pathOf(source: StreamSource): string {
    switch (source.kind) {
      case 'snapshot':
        return this.layout.snapshot(source.projectId, source.name);
      case 'frozen':
        return this.layout.frozen(source.projectId, source.name);
      case 'persistence':
        return this.layout.frozenPersistence(source.projectId, source.name);
      case 'image':
        return this.layout.image(source.digest);
    }
  }
}

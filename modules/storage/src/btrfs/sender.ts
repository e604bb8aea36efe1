import { Readable } from 'node:stream';
import type { ProjectId } from '@rookery/core/contract';
import { CoreErrors, MiB, type ProcessEnd, type SpawnedProcess } from '@rookery/core';
import type { VolumeLayout } from '../layout.js';
import type { SendOptions, StreamSource } from '../storage.driver.js';
import { StorageErrors } from '../storage.errors.js';
import type { BtrfsProgram } from './btrfs-program.js';
import { subvolumeAt } from './ioctl.js';

/** Read from `btrfs send` before anybody asks, so that the disk does not wait for the network. */
const readAheadBytes = MiB;

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
    const signal = AbortSignal.any(signals);
    let process: SpawnedProcess | undefined;
    const output = new Readable({
      highWaterMark: readAheadBytes,
      read: () => {
        if (process) process.stdout.resume();
        else process = this.start(source, { ...options, signal }, output);
      },
    });
    output.once('close', () => gone.abort());
    return output;
  }

  /** Chunks are handed on as they are: a gigabyte is thirty thousand of them. */
  private start(
    source: StreamSource,
    options: SendOptions & { signal: AbortSignal },
    output: Readable,
  ): SpawnedProcess | undefined {
    let done = (): void => undefined;
    try {
      const path = this.sourcePath(source);
      const parent = options.parent && this.sourcePath(options.parent);
      done = this.holdSending([source, options.parent]);
      const process = this.btrfs.send(path, {
        protocol: this.protocol,
        signal: options.signal,
        ...(parent !== undefined && { parent }),
      });
      process.stdin.end();
      process.stdout.on('data', (chunk: Buffer) => {
        if (!output.push(chunk)) process.stdout.pause();
      });
      // Nobody reads any more: what is left must not keep the process from ending.
      output.once('close', () => process.stdout.resume());
      void process.ended.then((end) => {
        done();
        finish(output, path, end, options.signal);
      });
      return process;
    } catch (error) {
      done();
      output.destroy(error as Error);
      return undefined;
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

/** Fails unless `btrfs send` ended well: an end that is not one is never shown. */
function finish(output: Readable, path: string, end: ProcessEnd, signal: AbortSignal): void {
  if (output.destroyed) return;
  if (signal.aborted) {
    output.destroy(CoreErrors.CANCELED({}, { cause: signal.reason }));
  } else if (end.exit === 0) {
    output.push(null);
  } else {
    const reason = end.error?.message ?? end.stderr.trim().slice(-300);
    // Killed from outside: that says nothing about what it read.
    if (end.signal !== null) {
      const killed = `btrfs send was ended by ${end.signal}`;
      output.destroy(StorageErrors.STREAM_BROKEN({ item: path, reason: killed }));
      return;
    }
    output.destroy(
      StorageErrors.STREAM_INVALID({ item: path, reason: `sending failed: ${reason}` }),
    );
  }
}

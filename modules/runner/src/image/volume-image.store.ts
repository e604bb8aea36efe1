import { createReadStream } from 'node:fs';
import { mkdir, readFile, realpath, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { CodedError, parseConfig, SingleFlight, type Exec, type Logger } from '@rookery/core';
import type { Progress } from '@rookery/core/contract';
import type { StorageDriver } from '@rookery/storage/contract';
import { z } from 'zod';
import type { PodmanCli } from '../podman/podman.cli.js';
import { RunnerErrors } from '../runner.errors.js';
import { ImageOptions } from '../runner.options.js';
import { ImageRecords, sha256Of } from './image-records.js';
import { isAllowed, parseImageRef, type ImageRef } from './image-ref.js';
import { ImageStore, type EnsureImageOptions, type ResolvedImage } from './image.store.js';
import { PodmanImagePuller, pullFailure, type PulledImage } from './podman-image-puller.js';
import { RegistryClient } from './registry.client.js';
import { makeRootfsFolder, unpackRootfs } from './unpack.js';

/** Beside `rootfs/` in an image's folder; travels with the image when a project moves. */
const ImageFile = z.object({ env: z.record(z.string(), z.string()) });

type Report = (progress: Progress) => void;

/** Errors for which the configured fallback image may stand in. */
const fallbackCodes = new Set([
  'IMAGE_UNKNOWN',
  'IMAGE_DENIED',
  'IMAGE_PULL_FAILED',
  'REGISTRY_UNREACHABLE',
]);

/** Keeps images on the host's volume, one folder a digest, and fetches what is missing. */
export class VolumeImageStore extends ImageStore {
  private readonly options: z.output<typeof ImageOptions>;
  private readonly records: ImageRecords;
  private readonly registry: RegistryClient;
  private readonly flights = new SingleFlight();

  constructor(
    private readonly exec: Exec,
    private readonly storage: StorageDriver,
    /** Opened before this store. */
    private readonly driver: { readonly podman: PodmanCli },
    options: ImageOptions,
    private readonly log: Logger,
  ) {
    super();
    this.options = parseConfig(ImageOptions, options);
    this.records = new ImageRecords(join(this.options.stateDir, 'images.json'));
    this.registry = new RegistryClient(this.options.registries);
  }

  async open(): Promise<void> {
    await mkdir(this.options.stateDir, { recursive: true, mode: 0o700 });
    await this.records.open();
    await this.puller.recover();
  }

  async ensure(image: string, options: EnsureImageOptions = {}): Promise<ResolvedImage> {
    const ref = parseImageRef(image);
    try {
      return await this.ensureRef(ref, options);
    } catch (error) {
      const { fallbackImage } = this.options;
      if (fallbackImage === undefined || !CodedError.is(error)) throw error;
      if (!fallbackCodes.has(error.code)) throw error;
      this.log.warn({ image, code: error.code, fallbackImage }, 'using the fallback image');
      const { onProgress } = options;
      const instead = await this.ensureRef(parseImageRef(fallbackImage), { onProgress });
      return { ...instead, fallbackFor: error };
    }
  }

  async collect(inUse: ReadonlySet<string>): Promise<string | undefined> {
    const { unusedMs, freePart } = this.options.collect;
    const images = await this.storage.listImages();
    // One that nobody was seen to use begins its time now.
    const fresh = images.filter((digest) => this.records.usedAt(digest) === undefined);
    await this.records.touch([...fresh, ...images.filter((digest) => inUse.has(digest))]);
    const { totalBytes, freeBytes } = await this.storage.space();
    if (freeBytes >= totalBytes * freePart) return undefined;
    const usedAt = (digest: string): number => this.records.usedAt(digest) ?? Infinity;
    const before = Date.now() - unusedMs;
    const [oldest] = images
      .filter((digest) => !inUse.has(digest) && usedAt(digest) <= before)
      .sort((a, b) => usedAt(a) - usedAt(b));
    if (oldest === undefined) return undefined;
    await this.storage.deleteImage(oldest);
    await this.records.forget(oldest);
    this.log.info({ digest: oldest, freeBytes }, 'an unused image was deleted');
    return oldest;
  }

  private async ensureRef(ref: ImageRef, options: EnsureImageOptions): Promise<ResolvedImage> {
    const file = this.options.localImages[ref.normalized];
    if (file === undefined) await this.assertAllowed(ref);
    const pinned = options.digest && (await this.find(ref, options.digest));
    if (pinned) return pinned;
    // Callers that join a flight see no progress of their own, but end with it.
    const report: Report = options.onProgress ?? (() => undefined);
    return this.flights.run(`${ref.normalized} ${options.digest ?? ''}`, async () => {
      if (file !== undefined) return this.ensureTar(ref, file, report);
      if (ref.kind === 'registry') return this.ensureRemote(ref, options.digest, report);
      return this.ensureArchive(ref, report);
    });
  }

  /** A root filesystem that was built on this machine. */
  private async ensureTar(ref: ImageRef, file: string, report: Report): Promise<ResolvedImage> {
    const { size } = await stat(file).catch((error: unknown) => {
      throw RunnerErrors.IMAGE_UNKNOWN({ image: ref.normalized }, { cause: error });
    });
    const digest = await this.records.digestOfFile(file, () => sha256Of(file));
    const found = await this.find(ref, digest);
    if (found) return found;
    await this.unpack(ref, digest, createReadStream(file), { env: {}, size, report });
    return this.found(ref, digest);
  }

  private async ensureRemote(
    ref: Extract<ImageRef, { kind: 'registry' }>,
    pinned: string | undefined,
    report: Report,
  ): Promise<ResolvedImage> {
    const wanted = pinned ? { ...ref, digest: pinned } : ref;
    const remote = await this.registry.resolve(wanted).catch((error: unknown) => {
      // A tag that cannot be asked for means what it meant last.
      const unreachable = CodedError.is(error, 'REGISTRY_UNREACHABLE');
      const digest = unreachable ? this.records.digestOf(ref.normalized) : undefined;
      // `localhost/…` names images built here; where no registry listens, there is just no such one.
      if (unreachable && digest === undefined && ref.registry === 'localhost') {
        throw RunnerErrors.IMAGE_UNKNOWN({ image: ref.normalized }, { cause: error });
      }
      if (digest === undefined || pinned !== undefined) throw error;
      return { digest, bytes: undefined };
    });
    const found = await this.find(ref, remote.digest);
    if (found) return found;
    this.assertSize(ref, remote.bytes ?? 0);
    const total = remote.bytes;
    const source = `docker://${ref.registry}/${ref.repository}@${remote.digest}`;
    const access = { ...this.options.registries[ref.registry], registry: ref.registry };
    const pulled = await this.puller
      .pull(source, access, (done) =>
        report({ step: 'pull', done, ...(total !== undefined && { total }), unit: 'bytes' }),
      )
      .catch((error: unknown) => {
        throw pullFailure(ref.normalized, error);
      });
    await this.keep(ref, remote.digest, pulled, report);
    return this.found(ref, remote.digest);
  }

  private async ensureArchive(
    ref: Extract<ImageRef, { path: string }>,
    report: Report,
  ): Promise<ResolvedImage> {
    await stat(ref.path).catch((error: unknown) => {
      throw RunnerErrors.IMAGE_UNKNOWN({ image: ref.normalized }, { cause: error });
    });
    const pull = async (): Promise<string> => {
      const pulled = await this.puller
        .pull(ref.normalized, {}, (done) => report({ step: 'pull', done, unit: 'bytes' }))
        .catch((error: unknown) => {
          const reason = error instanceof Error ? error.message.slice(-300) : String(error);
          throw RunnerErrors.IMAGE_INVALID({ image: ref.normalized, reason }, { cause: error });
        });
      await this.keep(ref, pulled.digest, pulled, report);
      return pulled.digest;
    };
    const digest = await this.records.digestOfFile(ref.path, pull);
    // The file is known, but its image was deleted from the volume since.
    if (!(await this.storage.imagePath(digest))) await pull();
    return this.found(ref, digest);
  }

  /** From podman's storage to the volume, once; podman's copy is dropped. */
  private async keep(
    ref: ImageRef,
    digest: string,
    pulled: PulledImage,
    report: Report,
  ): Promise<void> {
    try {
      this.assertSize(ref, pulled.bytes);
      if (await this.storage.imagePath(digest)) return;
      await this.puller.export(pulled, (tar, assertWhole) =>
        this.unpack(ref, digest, tar, {
          env: pulled.env,
          size: pulled.bytes,
          report,
          assertWhole,
        }),
      );
    } finally {
      await this.puller.remove(pulled);
    }
  }

  private async unpack(
    ref: ImageRef,
    digest: string,
    tar: Readable,
    options: {
      env: Readonly<Record<string, string>>;
      size: number;
      report: Report;
      assertWhole?: () => Promise<void>;
    },
  ): Promise<void> {
    await using staged = await this.storage.stageImage();
    const rootfs = await makeRootfsFolder(staged.path);
    const { size, report } = options;
    await unpackRootfs(this.exec, tar, rootfs, {
      image: ref.normalized,
      bytesMax: this.options.imageBytesMax,
      onBytes: (done) =>
        report({ step: 'extract', done: Math.min(done, size), total: size, unit: 'bytes' }),
    });
    await options.assertWhole?.();
    await writeFile(join(staged.path, 'image.json'), JSON.stringify({ env: options.env }));
    await staged.commit(digest);
    this.log.info({ image: ref.normalized, digest }, 'image unpacked');
  }

  private async find(ref: ImageRef, digest: string): Promise<ResolvedImage | undefined> {
    const folder = await this.storage.imagePath(digest);
    if (folder === undefined) return undefined;
    const text = await readFile(join(folder, 'image.json'), 'utf8');
    const { env } = ImageFile.parse(JSON.parse(text));
    await this.records.remember(ref.normalized, digest);
    await this.records.touch([digest]);
    return { ref: ref.normalized, digest, rootPath: join(folder, 'rootfs'), env };
  }

  private async found(ref: ImageRef, digest: string): Promise<ResolvedImage> {
    const image = await this.find(ref, digest);
    if (image) return image;
    throw RunnerErrors.IMAGE_UNKNOWN({ image: ref.normalized });
  }

  private async assertAllowed(ref: ImageRef): Promise<void> {
    const { allowedImages, localImageDirs } = this.options;
    const allowed =
      ref.kind === 'registry'
        ? isAllowed(ref.normalized, allowedImages)
        : await isBeneath(ref.path, localImageDirs);
    if (allowed) return;
    const list = [...Object.keys(this.options.localImages), ...allowedImages].slice(0, 10);
    throw RunnerErrors.IMAGE_NOT_ALLOWED({ image: ref.normalized, allowed: list.join(', ') });
  }

  private assertSize(ref: ImageRef, bytes: number): void {
    const bytesMax = this.options.imageBytesMax;
    if (bytes <= bytesMax) return;
    throw RunnerErrors.IMAGE_TOO_LARGE({ image: ref.normalized, bytes, bytesMax });
  }

  private get puller(): PodmanImagePuller {
    return new PodmanImagePuller(this.exec, this.driver.podman, this.options.stateDir);
  }
}

/** Where the path really leads must lie in one of the folders, links followed. */
async function isBeneath(path: string, folders: readonly string[]): Promise<boolean> {
  const real = await realpath(path).catch(() => path);
  const roots = await Promise.all(folders.map((folder) => realpath(folder).catch(() => folder)));
  return roots.some((root) => real === root || real.startsWith(`${root}/`));
}

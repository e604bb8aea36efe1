import { readFile, stat } from 'node:fs/promises';
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { pipeline } from 'node:stream/promises';
import { writeFileAtomic } from '@rookery/core';
import { z } from 'zod';

const Records = z.object({
  /** What a reference meant when it was resolved last. */
  refs: z.record(z.string(), z.object({ digest: z.string(), resolvedAt: z.number() })).default({}),
  /** Digests of files, valid while the file is the same. */
  files: z.record(z.string(), z.object({ print: z.string(), digest: z.string() })).default({}),
  /** When each image was last asked for, by digest. */
  used: z.record(z.string(), z.number()).default({}),
});
type Records = z.infer<typeof Records>;

const usedPrecisionMs = 3_600_000;

/** What this host has learned about images. Losing it costs a question to the registry. */
export class ImageRecords {
  private records: Records = { refs: {}, files: {}, used: {} };

  constructor(private readonly path: string) {}

  async open(): Promise<void> {
    const text = await readFile(this.path, 'utf8').catch(() => '{}');
    const parsed = Records.safeParse(jsonOr(text, {}));
    this.records = parsed.success ? parsed.data : { refs: {}, files: {}, used: {} };
  }

  digestOf(ref: string): string | undefined {
    return this.records.refs[ref]?.digest;
  }

  async remember(ref: string, digest: string): Promise<void> {
    if (this.digestOf(ref) === digest) return;
    this.records.refs[ref] = { digest, resolvedAt: Date.now() };
    await this.save();
  }

  /** @returns undefined for an image that nobody was seen to use */
  usedAt(digest: string): number | undefined {
    return this.records.used[digest];
  }

  /** Somebody uses the images now. Kept to the hour: a start need not wait for the disk. */
  async touch(digests: Iterable<string>): Promise<void> {
    const now = Date.now();
    let stale = false;
    for (const digest of digests) {
      if (now - (this.records.used[digest] ?? 0) <= usedPrecisionMs) continue;
      this.records.used[digest] = now;
      stale = true;
    }
    if (stale) await this.save();
  }

  /** The image is gone. */
  async forget(digest: string): Promise<void> {
    delete this.records.used[digest];
    await this.save();
  }

  /** The digest that `make` gave for this very file before, else what it gives now. */
  async digestOfFile(path: string, make: () => Promise<string>): Promise<string> {
    const print = await fingerprint(path);
    const known = this.records.files[path];
    if (known?.print === print) return known.digest;
    const digest = await make();
    this.records.files[path] = { print, digest };
    await this.save();
    return digest;
  }

  private async save(): Promise<void> {
    await writeFileAtomic(this.path, JSON.stringify(this.records), { mode: 0o644 });
  }
}

export async function sha256Of(path: string): Promise<string> {
  const hash = createHash('sha256');
  await pipeline(createReadStream(path, { highWaterMark: 1024 * 1024 }), hash);
  return `sha256:${hash.digest('hex')}`;
}

async function fingerprint(path: string): Promise<string> {
  const { size, mtimeMs, ino, dev } = await stat(path);
  return [dev, ino, size, mtimeMs].join(':');
}

function jsonOr(text: string, otherwise: unknown): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return otherwise;
  }
}

import { open, type FileHandle } from 'node:fs/promises';
import { Readable } from 'node:stream';
import { SystemClock } from '@rookery/core';

export interface LogOptions {
  readonly follow: boolean;
  readonly tailLines?: number | undefined;
  readonly signal: AbortSignal;
}

const chunkBytes = 64 * 1024;
const pollMs = 200;
/** Followed from the end, a log is searched this far back for its last lines. */
const tailBytesMax = 16 * 1024 * 1024;

/**
 * Reads a log that conmon writes in the format of Kubernetes' CRI (`<time> <stream> F|P <text>`)
 * as the text alone. It outlives the container; conmon replaces it when it grows too long, which
 * shows as a smaller or another file.
 */
export function readContainerLog(path: string, options: LogOptions): Readable {
  return Readable.from(lines(path, options), { objectMode: false });
}

async function* lines(path: string, options: LogOptions): AsyncGenerator<Buffer> {
  const clock = new SystemClock();
  let file: FileHandle | undefined;
  try {
    file = await openIfThere(path);
    let position = file ? await startOf(file, options.tailLines) : 0;
    let rest = Buffer.alloc(0);
    while (!options.signal.aborted) {
      const chunk = file ? await readAt(file, position) : Buffer.alloc(0);
      if (chunk.length > 0) {
        position += chunk.length;
        const whole = Buffer.concat([rest, chunk]);
        const end = whole.lastIndexOf(10) + 1;
        rest = whole.subarray(end);
        const text = textOf(whole.subarray(0, end));
        if (text.length > 0) yield text;
        continue;
      }
      if (!options.follow) break;
      await clock.delay(pollMs, options.signal).catch(() => undefined);
      if (file && !(await isReplaced(path, file, position))) continue;
      const next = await openIfThere(path);
      if (!next) continue;
      await file?.close();
      file = next;
      position = 0;
      rest = Buffer.alloc(0);
    }
  } finally {
    await file?.close();
  }
}

/** Strips the time and stream; joins the parts of long lines. */
function textOf(block: Buffer): Buffer {
  const parts: Buffer[] = [];
  let start = 0;
  while (start < block.length) {
    const end = block.indexOf(10, start) + 1;
    const line = block.subarray(start, end);
    const header = /^\S+ (?:stdout|stderr) ([FP]) /.exec(line.subarray(0, 80).toString('latin1'));
    if (header) {
      const partial = header[1] === 'P';
      parts.push(line.subarray(header[0].length, partial ? line.length - 1 : line.length));
    }
    start = end;
  }
  return Buffer.concat(parts);
}

async function startOf(file: FileHandle, tailLines: number | undefined): Promise<number> {
  if (tailLines === undefined) return 0;
  const { size } = await file.stat();
  if (tailLines === 0) return size;
  let found = 0;
  let position = size;
  while (position > 0 && size - position < tailBytesMax) {
    const length = Math.min(chunkBytes, position);
    position -= length;
    const chunk = await readAt(file, position, length);
    for (let index = chunk.length - 1; index >= 0; index -= 1) {
      if (chunk[index] !== 10 || position + index === size - 1) continue;
      found += 1;
      if (found === tailLines) return position + index + 1;
    }
  }
  return position;
}

async function readAt(file: FileHandle, position: number, length = chunkBytes): Promise<Buffer> {
  const { buffer, bytesRead } = await file.read(Buffer.alloc(length), 0, length, position);
  return buffer.subarray(0, bytesRead);
}

async function isReplaced(path: string, file: FileHandle, position: number): Promise<boolean> {
  const now = await openIfThere(path);
  if (!now) return false;
  try {
    const [mine, theirs] = await Promise.all([file.stat(), now.stat()]);
    return mine.ino !== theirs.ino || theirs.size < position;
  } finally {
    await now.close();
  }
}

async function openIfThere(path: string): Promise<FileHandle | undefined> {
  return open(path, 'r').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  });
}

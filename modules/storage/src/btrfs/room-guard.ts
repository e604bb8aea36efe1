import { Transform, type TransformCallback } from 'node:stream';
import { MiB } from '@rookery/core';

const lookEveryBytes = 16 * MiB;

/** Passes a stream on and looks from time to time whether there is still room for it. */
export class RoomGuard extends Transform {
  private sinceLookBytes = 0;

  /** @param requireRoom rejects when there is none left: the stream ends with its error */
  constructor(private readonly requireRoom: () => Promise<void>) {
    super();
  }

  override _transform(chunk: Buffer, _encoding: string, done: TransformCallback): void {
    this.sinceLookBytes += chunk.length;
    if (this.sinceLookBytes < lookEveryBytes) {
      done(null, chunk);
      return;
    }
    this.sinceLookBytes = 0;
    this.requireRoom().then(() => done(null, chunk), done);
  }
}

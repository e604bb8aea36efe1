/** What crosses the wire between a source and a destination over SSH. */
import { z } from 'zod';

/** The line of JSON on stdout with which a destination says that a stream has landed. */
export const TransferResult = z.object({
  /** UUID of the sender's subvolume, as the receiver recorded it. */
  receivedUuid: z.string().optional(),
  /** Name under which it landed. */
  item: z.string().optional(),
  readOnly: z.boolean().optional(),
  /** Bytes of the stream. */
  bytes: z.int().min(0),
});
export type TransferResult = z.infer<typeof TransferResult>;

/** What one SSH exec carries: `receive <moveId> <kind> <name>`. */
export interface TransferItem {
  readonly moveId: string;
  readonly kind: 'snapshot' | 'delta' | 'persistence' | 'image';
  readonly name: string;
}

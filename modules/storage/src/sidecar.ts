import { readFile, rm } from 'node:fs/promises';
import { CodedError, writeFileAtomic } from '@rookery/core';
import { ProjectId } from '@rookery/core/contract';
import { z } from 'zod';
import type { VolumeLayout } from './layout.js';
import { ignoreMissing } from './files.js';
import { StorageErrors } from './storage.errors.js';

/**
 * What btrfs cannot say about a project: which snapshots are locked, and when those were taken
 * that a move brought. Lies where no project reaches, since a lock that its owner's processes can
 * lift is none; every change is on disk before it counts.
 */
const Sidecar = z.object({
  version: z.literal(1).default(1),
  /** Set around what is not one step, so that reconcile can tell its leftovers from lost files. */
  state: z.enum(['creating', 'deleting']).optional(),
  /** The move whose landing area became this volume: repeating the activation finds it done. */
  activatedBy: z.string().optional(),
  /** Where a clone came from: repeating the clone then finds it done. */
  clonedFrom: z.string().optional(),
  /** A replacement under way: whose volume comes, and what it and the kept snapshot are. */
  replacing: z
    .object({ from: z.string(), arriving: z.string(), previous: z.string().optional() })
    .optional(),
  snapshots: z
    .record(
      z.string(),
      z.object({ locked: z.boolean().default(false), createdAt: z.int().optional() }),
    )
    .default({}),
});
export type Sidecar = z.output<typeof Sidecar>;

export class SidecarStore {
  constructor(private readonly layout: VolumeLayout) {}

  async read(id: ProjectId): Promise<Sidecar> {
    const path = this.layout.sidecar(id);
    const text = await readFile(path, 'utf8').catch(ignoreMissing);
    try {
      return Sidecar.parse(text === undefined ? {} : JSON.parse(text));
    } catch (cause) {
      throw StorageErrors.SIDECAR_DAMAGED({ projectId: id, path }, { cause });
    }
  }

  /**
   * The caller holds the project's lock.
   * @param options.anew what cannot be read any more is left behind
   */
  async update(
    id: ProjectId,
    change: (sidecar: Sidecar) => void,
    options: { readonly anew?: boolean } = {},
  ): Promise<void> {
    const sidecar = await this.read(id).catch((error: unknown) => {
      if (options.anew === true && CodedError.is(error, 'SIDECAR_DAMAGED')) {
        return Sidecar.parse({});
      }
      throw error;
    });
    change(sidecar);
    await writeFileAtomic(this.layout.sidecar(id), JSON.stringify(sidecar));
  }

  async remove(id: ProjectId): Promise<void> {
    await rm(this.layout.sidecar(id), { force: true });
  }
}

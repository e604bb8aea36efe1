import { z } from 'zod';

export const ProjectId = z.uuid().toLowerCase().describe('Project id: a UUID, lower case.');
export type ProjectId = z.infer<typeof ProjectId>;

export const HostId = z.uuid().toLowerCase();
export type HostId = z.infer<typeof HostId>;

export const AccountId = z.uuid().toLowerCase();
export const OperationId = z.uuid().toLowerCase();
export type OperationId = z.infer<typeof OperationId>;

/** One move of one project; also names its landing area `_incoming/<move id>`. */
export const MoveId = z.uuid().toLowerCase();
export type MoveId = z.infer<typeof MoveId>;

/** Raised by one with every change of ownership; 0 means "not placed yet". */
export const PlacementGeneration = z.int().min(0);
export type PlacementGeneration = z.infer<typeof PlacementGeneration>;

/** A name a person gives (project, host, API key): shown, never used as a path. */
export const DisplayName = z
  .string()
  .trim()
  .min(1)
  .max(100)

  .refine((name) => !/[\u0000-\u001f\u007f]/.test(name), 'must not hold control characters');

/** Snapshot names are directory names on the host. */
export const SnapshotName = z
  .string()
  .regex(/^[A-Za-z0-9][A-Za-z0-9._:+-]{0,99}$/, 'use letters, digits and . _ : + - (at most 100)')
  .refine((name) => !name.startsWith('move-') && !name.startsWith('backup-'), {
    message: 'names that start with move- or backup- are reserved',
  });
export type SnapshotName = z.infer<typeof SnapshotName>;

export const Port = z.int().min(1).max(65535);

/** A path inside a project's home, relative, without `..`; the root checks again by descriptor. */
export const RelativePath = z
  .string()
  .min(1)
  .max(4096)
  .refine((path) => !path.startsWith('/'), 'must be relative to the home directory')
  .refine((path) => !path.split('/').includes('..'), 'must not hold ..')
  .refine((path) => !path.includes('\0'), 'must not hold a NUL byte');

/** An Ed25519 key in the one-line OpenSSH form `ssh-ed25519 AAAA…`. */
/** All that an image holds, as one digest (docs/adr/0016); `tree1` names the form that was hashed. */
export const ImageTreeDigest = z.string().regex(/^tree[1-9]\d{0,2}:[0-9a-f]{64}$/);
export type ImageTreeDigest = z.infer<typeof ImageTreeDigest>;

export const SshPublicKey = z.string().regex(/^ssh-ed25519 [A-Za-z0-9+/=]+$/);

import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { MoveId, ProjectId } from '@rookery/core/contract';
import { parseInput } from '@rookery/core';
import { z } from 'zod';
import type { Volume, VolumePaths } from './storage.driver.js';

/**
 * Root inside a container is this uid (and gid) on the host, and the container's 65536 ids follow.
 * Equal on every host, so that moves and backups change no owner.
 */
export const containerRootId = 100_000;
export const containerIdCount = 65_536;

/** Owner alone: what only the host's root may enter. */
export const privateMode = 0o700;
/** Root's folder that a container's users may read and enter, but not change. */
export const rootOwnedMode = 0o755;
export const homeMode = 0o755;

/** Level-1 qgroup ids are 48 bits; the top four tell ours from those of others on the volume. */
const qgroupMarker = 0xa;
const qgroupHashDigits = 11;

/**
 * The project's level-1 qgroup, `1/<n>`. Derived from the id alone, so that nothing need be stored
 * and a crash loses nothing: n = 0xa followed by 44 bits of the id's SHA-256. With 10,000 projects
 * on a host, the odds that any two share a group are 3 in a million.
 */
export function qgroupOf(id: ProjectId): string {
  const hash = createHash('sha256').update(id).digest('hex').slice(0, qgroupHashDigits);
  return `1/${Number.parseInt(qgroupMarker.toString(16) + hash, 16)}`;
}

/** The level-2 qgroup that the qgroups of all projects are in. */
export const projectsQgroup = `2/${qgroupMarker * 2 ** 44}`;

/** Whether a level-1 qgroup was made by {@link qgroupOf}. */
export function isProjectQgroup(qgroup: string): boolean {
  const [level, number] = qgroup.split('/');
  return level === '1' && Math.floor(Number(number) / 2 ** 44) === qgroupMarker;
}

/** Names of pictures for a backup or a move; part of a path. */
export const TemporarySnapshotName = z
  .string()
  .regex(
    /^(move|backup|clone)-[A-Za-z0-9._+-]{1,90}$/,
    'must start with move- or backup- and use letters, digits and . _ + -',
  );

/** Snapshots on disk: users' names, and `before-restore-…`. */
export const StoredSnapshotName = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._:+-]{0,99}$/);

/** What lands in one move: `<kind>.<name>`. */
export const LandingItem = z.string().regex(/^[a-z]+\.[A-Za-z0-9][A-Za-z0-9._:+-]{0,149}$/);

const ImageDigest = z.string().regex(/^[a-z0-9]+:[A-Za-z0-9]{8,128}$/, 'must look like sha256:…');

/** The only place that knows where things lie on a volume (DESIGN: host). */
export class VolumeLayout {
  constructor(readonly volume: string) {}

  live(id: ProjectId): string {
    return join(this.volume, `project-${checked(ProjectId, id)}`);
  }

  home(id: ProjectId): string {
    return join(this.live(id), 'home');
  }

  snapshots(id: ProjectId): string {
    return join(this.live(id), '.snapshots');
  }

  snapshot(id: ProjectId, name: string): string {
    return join(this.snapshots(id), checked(StoredSnapshotName, name));
  }

  persistence(id: ProjectId): string {
    return join(this.volume, 'sync', 'projects', checked(ProjectId, id));
  }

  scratch(id: ProjectId): string {
    return join(this.volume, 'scratch', checked(ProjectId, id));
  }

  paths(id: ProjectId): VolumePaths {
    const root = this.live(id);
    return {
      root,
      home: this.home(id),
      overlay: join(root, '.local', 'share', 'overlay'),
      snapshots: this.snapshots(id),
      persistence: this.persistence(id),
      scratch: this.scratch(id),
    };
  }

  asVolume(id: ProjectId): Volume {
    return { projectId: id, paths: this.paths(id) };
  }

  /** TemporarySnapshots of a project, where no project can see them and outside its group. */
  frozenFolder(id: ProjectId): string {
    return join(this.volume, '_frozen', checked(ProjectId, id));
  }

  frozen(id: ProjectId, name: string): string {
    return join(this.frozenFolder(id), checked(TemporarySnapshotName, name));
  }

  /** A name of its own, since a stream lands under the last part of its path. */
  frozenPersistence(id: ProjectId, name: string): string {
    return `${this.frozen(id, name)}.persistence`;
  }

  landing(moveId: MoveId): string {
    return join(this.volume, '_incoming', checked(MoveId, moveId));
  }

  image(digest: string): string {
    // Without the colon, which separates an overlay's lower folders.
    return join(this.volume, 'images', checked(ImageDigest, digest).replace(':', '-'));
  }

  /** What is known of an image's content. */
  imageTree(digest: string): string {
    const folder = checked(ImageDigest, digest).replace(':', '-');
    return join(this.volume, '_meta', `image-${folder}.json`);
  }

  imageDigest(folder: string): string | undefined {
    const digest = ImageDigest.safeParse(folder.replace('-', ':'));
    return digest.success ? digest.data : undefined;
  }

  /** Half-built and half-removed things: never visible as anything else. */
  staging(name: string): string {
    return join(this.volume, '_staging', name);
  }

  sidecar(id: ProjectId): string {
    return join(this.volume, '_meta', `${checked(ProjectId, id)}.json`);
  }

  /** Folders that a volume always has; only root looks inside those that start with `_`. */
  folders(): readonly { readonly path: string; readonly mode: number }[] {
    const at = (name: string, mode: number): { path: string; mode: number } => ({
      path: join(this.volume, name),
      mode,
    });
    return [
      at('sync', privateMode),
      at('sync/projects', privateMode),
      at('images', rootOwnedMode),
      at('scratch', rootOwnedMode),
      at('_incoming', privateMode),
      at('_frozen', privateMode),
      at('_staging', privateMode),
      at('_meta', privateMode),
    ];
  }
}

/** A path is only ever made from a name that was checked. @throws INVALID_INPUT */
function checked<T extends z.ZodType<string>>(schema: T, value: string): string {
  return parseInput(schema, value);
}

/** `project-<id>` → the id. */
export function projectOfFolder(folder: string): ProjectId | undefined {
  if (!folder.startsWith('project-')) return undefined;
  const id = ProjectId.safeParse(folder.slice('project-'.length));
  return id.success && `project-${id.data}` === folder ? id.data : undefined;
}

import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { idsPerProject, writeFileAtomic } from '@rookery/core';
import type { IdRange } from './runner-id.js';

/** What the container of one project gets from its host beside what podman gives it. */
export interface PrivateStart {
  readonly range: IdRange;
  /** The whole environment: in podman's arguments every user of the host could read it. */
  readonly env: Readonly<Record<string, string>>;
  /** As `mount -t overlay -o` takes them. */
  readonly overlayOptions: string;
}

/** The annotation that leads from a container's configuration to its {@link PrivateStart}. */
export const startFolderAnnotation = 'rookery.start';

const editFile = 'configuration.sed';
const overlayFile = 'overlay';

/**
 * Writes the OCI runtime that podman calls. For `create` it first does what podman cannot or would
 * do worse, and then hands on to the real runtime; anything else it hands on at once.
 *
 * - The user namespace comes from here. podman, when told of it, would open every folder on the way
 *   to its own state, to the volume and to the root filesystem to all users of the host, and keep a
 *   mount namespace a container, which holds on to whatever the host has mounted.
 * - The root filesystem is mounted here, in a mount namespace that ends with this command: nobody
 *   on the host sees it, so its setuid files serve nobody outside, and podman, which would read
 *   `/etc/passwd` in it with the host's own rights, finds an empty folder.
 *
 * @param rootDir an empty folder to which every user may walk: there the container's root, no one
 * on the host, finds its root filesystem
 * @returns its path
 */
export async function writePrivateRuntime(
  stateDir: string,
  runtime: string,
  rootDir: string,
): Promise<string> {
  const path = join(stateDir, 'oci-runtime');
  await writeFileAtomic(path, script(runtime, rootDir), { mode: 0o700 });
  return path;
}

/** Writes what the runtime of {@link writePrivateRuntime} looks for. */
export async function writePrivateStart(folder: string, start: PrivateStart): Promise<void> {
  const mode = 0o600;
  await writeFile(join(folder, editFile), edits(start), { mode });
  await writeFile(join(folder, overlayFile), start.overlayOptions, { mode });
}

const script = (runtime: string, rootDir: string): string => `#!/bin/sh
set -eu
verb= bundle= previous=
for argument in "$@"; do
  case $argument in create) verb=create ;; esac
  case $previous in --bundle) bundle=$argument ;; esac
  previous=$argument
done
[ "$verb" = create ] || exec ${runtime} "$@"
config=$bundle/config.json
folder=$(sed -n 's|.*"${startFolderAnnotation}":"\\([^"]*\\)".*|\\1|p' "$config")
( umask 077; sed -E -f "$folder/${editFile}" "$config" >"$config.new" )
mv "$config.new" "$config"
ROOKERY_OVERLAY=$(cat "$folder/${overlayFile}")
export ROOKERY_OVERLAY
exec unshare --mount --propagation private sh -c '
  mount -n -t overlay -o "$ROOKERY_OVERLAY" overlay ${rootDir}
  unset ROOKERY_OVERLAY
  exec ${runtime} "$@"' sh "$@"
`;

/** podman writes the configuration in one line; a quote inside a string has a backslash before it. */
function edits({ range, env }: PrivateStart): string {
  const map = [{ containerID: 0, hostID: range.firstId, size: idsPerProject }];
  const strings = Object.entries(env).map(([name, value]) => `${name}=${value}`);
  const maps = `"uidMappings":${JSON.stringify(map)},"gidMappings":${JSON.stringify(map)}`;
  return [
    substitute(String.raw`"env":\[("([^"\\]|\\.)*",?)*\]`, `"env":${JSON.stringify(strings)}`),
    substitute(String.raw`"linux":\{`, `"linux":{${maps},`),
    substitute(String.raw`"namespaces":\[`, '"namespaces":[{"type":"user"},'),
    '',
  ].join('\n');
}

function substitute(pattern: string, replacement: string): string {
  return `s\u0001${pattern}\u0001${replacement.replace(/[\\&]/g, String.raw`\$&`)}\u0001`;
}

import { chmod, chown, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { Transform, type Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { idsPerProject, type Exec } from '@rookery/core';
import { diskRootId } from '../podman/runner-id.js';
import { withUserNamespace } from '../podman/user-namespace.js';
import { RunnerErrors } from '../runner.errors.js';

export interface UnpackOptions {
  readonly image: string;
  readonly bytesMax: number;
  readonly onBytes: (bytes: number) => void;
}

/** Folders that podman mounts on; it does not make them in a root filesystem that is not its own. */
const mountPoints = ['proc', 'sys', 'dev', 'run', 'tmp', 'etc', 'root', 'opt', 'scratch'];

/**
 * Unpacks a tar as the root filesystem of a container. tar runs inside the containers' user
 * namespace: owners, setuid bits and file capabilities come out as the container's root sees them,
 * and nothing in the archive can act as the host's root.
 * @throws IMAGE_INVALID, IMAGE_TOO_LARGE
 */
export async function unpackRootfs(
  exec: Exec,
  tar: Readable,
  target: string,
  options: UnpackOptions,
): Promise<void> {
  await chown(target, diskRootId, diskRootId);
  await chmod(target, 0o755);
  await withUserNamespace(exec, `0 ${diskRootId} ${idsPerProject}\n`, async (namespace) => {
    await inNamespace(exec, namespace, target, options, tar);
    // One call, plain mkdir: what is there stays, a link (to a folder of the host, say) included.
    const argv = [...enter(namespace), 'mkdir', ...mountPoints];
    await exec.run(argv, { cwd: target, okExits: [0, 1] });
  });
}

/** Into the current folder: the namespace's root may not be able to walk the path to it. */
const tarArgs = [
  'tar',
  '--extract',
  '--preserve-permissions',
  '--numeric-owner',
  '--xattrs',
  '--xattrs-include=*',
  '--delay-directory-restore',
  '--exclude=dev/*',
  '--exclude=./dev/*',
];

function enter(namespace: string): string[] {
  return ['nsenter', `--user=${namespace}`, '--setuid', '0', '--setgid', '0'];
}

async function inNamespace(
  exec: Exec,
  namespace: string,
  target: string,
  options: UnpackOptions,
  input: Readable,
): Promise<void> {
  const process = exec.spawn([...enter(namespace), ...tarArgs], { cwd: target });
  process.stdout.resume();
  let bytes = 0;
  const counter = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      bytes += chunk.length;
      options.onBytes(bytes);
      const { image, bytesMax } = options;
      done(
        bytes > bytesMax ? RunnerErrors.IMAGE_TOO_LARGE({ image, bytes, bytesMax }) : null,
        chunk,
      );
    },
  });
  const copied = await pipeline(input, counter, process.stdin).then(
    () => undefined,
    (error: unknown) => error as Error & { code?: string },
  );
  // tar may end before its input does (padding follows the archive's end): its status decides.
  const tarEnded = copied?.code === 'EPIPE' || copied?.code === 'ERR_STREAM_PREMATURE_CLOSE';
  if (copied && !tarEnded) process.kill('SIGKILL');
  const end = await process.ended;
  if (copied && !tarEnded) throw copied;
  if (end.exit !== 0) {
    throw RunnerErrors.IMAGE_INVALID({
      image: options.image,
      reason: end.stderr.trim().slice(-300) || 'its archive cannot be unpacked',
    });
  }
}

/** Makes the folder that holds an image's root filesystem beside its description. */
export async function makeRootfsFolder(staged: string): Promise<string> {
  const path = join(staged, 'rootfs');
  await mkdir(path, { recursive: true, mode: 0o755 });
  return path;
}

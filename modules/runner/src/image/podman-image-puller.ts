import { rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { CodedError, type Exec } from '@rookery/core';
import { z } from 'zod';
import type { PodmanCli } from '../podman/podman.cli.js';
import { RunnerErrors } from '../runner.errors.js';
import type { RegistryAccess } from './registry.client.js';

/** An image in podman's storage, on its way to the volume. */
export interface PulledImage {
  readonly id: string;
  readonly digest: string;
  readonly bytes: number;
  readonly env: Readonly<Record<string, string>>;
}

const pullTimeoutMs = 6 * 3600_000;
const watchMs = 500;

const tarArgs = [
  'tar',
  '--create',
  '--numeric-owner',
  '--xattrs',
  '--xattrs-include=*',
  '--one-file-system',
  '--directory',
];

const Inspected = z.tuple([
  z.object({
    Id: z.string(),
    Digest: z.string().default(''),
    Size: z.number().default(0),
    Config: z.object({ Env: z.array(z.string()).nullish() }).nullish(),
  }),
]);

/** Fetches images with podman: layers, compression and whiteouts are its business. */
export class PodmanImagePuller {
  constructor(
    private readonly exec: Exec,
    private readonly podman: PodmanCli,
    private readonly stateDir: string,
  ) {}

  /** Drops what a process that died in the middle of a pull has left in podman's storage. */
  async recover(): Promise<void> {
    if (!(await exists(this.marker))) return;
    await this.podman.run(['rmi', '--all', '--force'], { okExits: [0, 1, 2, 125] });
    await this.podman.clearImageTmp();
    await rm(this.marker, { force: true });
  }

  /**
   * @param source what `podman pull` takes
   * @param onBytes compressed bytes that have arrived
   */
  async pull(
    source: string,
    access: RegistryAccess & { readonly registry?: string },
    onBytes: (bytes: number) => void,
  ): Promise<PulledImage> {
    await writeFile(this.marker, '');
    const authFile = join(this.stateDir, 'registry-auth.json');
    const args = ['pull', '--quiet'];
    if (access.insecure) args.push('--tls-verify=false');
    if (access.username !== undefined) {
      const auth = Buffer.from(`${access.username}:${access.password ?? ''}`).toString('base64');
      const auths = { [access.registry ?? '']: { auth } };
      await writeFile(authFile, JSON.stringify({ auths }), { mode: 0o600 });
      args.push('--authfile', authFile);
    }
    const watch = setInterval(() => void this.podman.imageTmpBytes().then(onBytes), watchMs);
    try {
      const { stdout } = await this.podman.run([...args, source], { timeoutMs: pullTimeoutMs });
      return await this.inspect(stdout.trim().split('\n').at(-1) ?? '');
    } finally {
      clearInterval(watch);
      await rm(authFile, { force: true });
    }
  }

  /** Hands the image's files to `take` as one tar, and a check that it was whole. */
  async export(
    image: PulledImage,
    take: (tar: Readable, assertWhole: () => Promise<void>) => Promise<void>,
  ): Promise<void> {
    const { stdout } = await this.podman.run(['image', 'mount', image.id]);
    // `podman export` opens /dev/stdout, which it cannot when that is a socket.
    const tar = this.exec.spawn([...tarArgs, stdout.trim(), '.']);
    try {
      await take(tar.stdout, async () => {
        const { exit, signal, stderr } = await tar.ended;
        // SIGPIPE: the reader had the archive's end and left the padding.
        if (exit === 0 || signal === 'SIGPIPE') return;
        throw RunnerErrors.IMAGE_PULL_FAILED({ image: image.id, reason: stderr.trim() });
      });
    } finally {
      tar.kill('SIGKILL');
      await tar.ended;
      await this.podman.run(['image', 'unmount', '--force', image.id], { okExits: [0, 125] });
    }
  }

  async remove(image: PulledImage): Promise<void> {
    await this.podman.run(['rmi', '--force', image.id], { okExits: [0, 1] });
    if ((await this.podman.run(['images', '--quiet'])).stdout.trim() === '') {
      await rm(this.marker, { force: true });
    }
  }

  private async inspect(id: string): Promise<PulledImage> {
    const { stdout } = await this.podman.run(['image', 'inspect', '--format', 'json', id]);
    const [image] = Inspected.parse(JSON.parse(stdout));
    const pairs = (image.Config?.Env ?? []).map((line): [string, string] => {
      const equals = line.indexOf('=');
      return equals < 0 ? [line, ''] : [line.slice(0, equals), line.slice(equals + 1)];
    });
    return {
      id: image.Id,
      digest: image.Digest,
      bytes: image.Size,
      env: Object.fromEntries(pairs),
    };
  }

  private get marker(): string {
    return join(this.stateDir, 'pulling');
  }
}

/** podman's prose about a failed pull, as one of our codes. */
export function pullFailure(image: string, error: unknown): CodedError {
  if (CodedError.is(error) && error.code !== 'COMMAND_FAILED') return error;
  const text = error instanceof Error ? error.message : String(error);
  const reason = text.split('\n').at(-1)?.slice(-300) ?? text;
  if (/no such file or directory/i.test(text))
    return RunnerErrors.IMAGE_UNKNOWN({ image }, { cause: error });
  return RunnerErrors.IMAGE_PULL_FAILED({ image, reason }, { cause: error });
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}

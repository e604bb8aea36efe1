import { createHash } from 'node:crypto';
import { z } from 'zod';
import { RunnerErrors } from '../runner.errors.js';
import type { ImageRef } from './image-ref.js';

export interface RegistryAccess {
  /** Plain HTTP: for a registry on loopback. */
  readonly insecure?: boolean | undefined;
  readonly username?: string | undefined;
  readonly password?: string | undefined;
}

/** What a registry says of an image before a byte of it is fetched. */
export interface RemoteImage {
  readonly digest: string;
  /** Compressed bytes of the layers; absent for a list of platforms that names no sizes. */
  readonly bytes?: number;
}

type RegistryRef = Extract<ImageRef, { kind: 'registry' }>;

const requestMs = 30_000;
const manifestBytesMax = 4 * 1024 * 1024;
const apiHosts: Readonly<Record<string, string>> = { 'docker.io': 'registry-1.docker.io' };
const architectures: Readonly<Record<string, string>> = { x64: 'amd64', arm64: 'arm64' };

const manifestTypes = [
  'application/vnd.oci.image.index.v1+json',
  'application/vnd.docker.distribution.manifest.list.v2+json',
  'application/vnd.oci.image.manifest.v1+json',
  'application/vnd.docker.distribution.manifest.v2+json',
].join(', ');

const Manifest = z.union([
  z.object({ layers: z.array(z.object({ size: z.number().default(0) })) }),
  z.object({
    manifests: z.array(
      z.object({
        digest: z.string(),
        platform: z.object({ os: z.string(), architecture: z.string() }).optional(),
      }),
    ),
  }),
]);

/**
 * Asks a registry (OCI distribution API) what a reference means now. podman does the fetching; it
 * is asked here first because its own failures are prose.
 */
export class RegistryClient {
  constructor(private readonly access: Readonly<Record<string, RegistryAccess>>) {}

  async resolve(ref: RegistryRef): Promise<RemoteImage> {
    const { digest, body } = await this.manifest(ref, ref.digest ?? ref.tag ?? 'latest');
    const manifest = Manifest.safeParse(body);
    if (!manifest.success) {
      throw RunnerErrors.IMAGE_INVALID({
        image: ref.normalized,
        reason: 'its manifest is of an unknown kind',
      });
    }
    if ('layers' in manifest.data) return { digest, bytes: layerBytes(manifest.data) };
    const architecture = architectures[process.arch];
    const own = manifest.data.manifests.find(
      ({ platform }) => platform?.os === 'linux' && platform.architecture === architecture,
    );
    if (!own) {
      throw RunnerErrors.IMAGE_INVALID({
        image: ref.normalized,
        reason: `it has nothing for linux/${architecture}`,
      });
    }
    const platform = Manifest.safeParse((await this.manifest(ref, own.digest)).body);
    if (!platform.success || !('layers' in platform.data)) return { digest };
    return { digest, bytes: layerBytes(platform.data) };
  }

  private async manifest(
    ref: RegistryRef,
    reference: string,
  ): Promise<{ digest: string; body: unknown }> {
    const access = this.access[ref.registry] ?? {};
    const scheme = access.insecure ? 'http' : 'https';
    const host = apiHosts[ref.registry] ?? ref.registry;
    const url = `${scheme}://${host}/v2/${ref.repository}/manifests/${reference}`;
    let response = await this.get(ref, url, basic(access));
    const challenge = response.headers.get('www-authenticate') ?? '';
    if (response.status === 401 && /^bearer /i.test(challenge)) {
      const token = await this.token(ref, challenge, access);
      if (token !== undefined) response = await this.get(ref, url, `Bearer ${token}`);
    }
    if (response.status === 404) throw RunnerErrors.IMAGE_UNKNOWN({ image: ref.normalized });
    if (response.status === 401 || response.status === 403) {
      throw RunnerErrors.IMAGE_DENIED({ image: ref.normalized });
    }
    if (!response.ok) throw unreachable(ref, `it answers ${response.status}`);
    const bytes = Buffer.from(await response.arrayBuffer());
    if (bytes.length > manifestBytesMax) {
      throw RunnerErrors.IMAGE_INVALID({
        image: ref.normalized,
        reason: 'its manifest is too long',
      });
    }
    const digest = `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
    if (reference.startsWith('sha256:') && digest !== reference) {
      throw RunnerErrors.IMAGE_INVALID({
        image: ref.normalized,
        reason: 'the registry answers with another manifest',
      });
    }
    try {
      return { digest, body: JSON.parse(bytes.toString('utf8')) as unknown };
    } catch (error) {
      throw RunnerErrors.IMAGE_INVALID(
        { image: ref.normalized, reason: 'its manifest is no JSON' },
        { cause: error },
      );
    }
  }

  /** https://distribution.github.io/distribution/spec/auth/token/ */
  private async token(
    ref: RegistryRef,
    challenge: string,
    access: RegistryAccess,
  ): Promise<string | undefined> {
    const fields = Object.fromEntries(
      [...challenge.matchAll(/(\w+)="([^"]*)"/g)].map((match) => [match[1], match[2]]),
    ) as Record<string, string>;
    if (fields.realm === undefined || !URL.canParse(fields.realm)) return undefined;
    const url = new URL(fields.realm);
    if (fields.service !== undefined) url.searchParams.set('service', fields.service);
    url.searchParams.set('scope', fields.scope ?? `repository:${ref.repository}:pull`);
    const response = await this.get(ref, url.href, basic(access));
    if (!response.ok) return undefined;
    const body = (await response.json()) as { token?: string; access_token?: string };
    return body.token ?? body.access_token;
  }

  private async get(ref: RegistryRef, url: string, authorization?: string): Promise<Response> {
    try {
      return await fetch(url, {
        headers: { accept: manifestTypes, ...(authorization && { authorization }) },
        signal: AbortSignal.timeout(requestMs),
      });
    } catch (error) {
      const cause = error instanceof Error ? (error.cause ?? error) : error;
      throw unreachable(ref, cause instanceof Error ? cause.message : String(cause), error);
    }
  }
}

function layerBytes(manifest: { layers: readonly { size: number }[] }): number {
  return manifest.layers.reduce((sum, layer) => sum + layer.size, 0);
}

function basic(access: RegistryAccess): string | undefined {
  if (access.username === undefined) return undefined;
  const pair = `${access.username}:${access.password ?? ''}`;
  return `Basic ${Buffer.from(pair).toString('base64')}`;
}

function unreachable(ref: RegistryRef, reason: string, cause?: unknown): Error {
  return RunnerErrors.REGISTRY_UNREACHABLE({ registry: ref.registry, reason }, { cause });
}

import { RunnerErrors } from '../runner.errors.js';

/** An image reference, taken apart. */
export type ImageRef =
  | {
      readonly kind: 'registry';
      /** `docker.io/library/debian:13`, or with `@sha256:…`. */
      readonly normalized: string;
      readonly registry: string;
      readonly repository: string;
      readonly tag?: string;
      readonly digest?: string;
    }
  | {
      readonly kind: 'oci-archive' | 'dir';
      readonly normalized: string;
      readonly path: string;
    };

const defaultRegistry = 'docker.io';
const defaultTag = 'latest';
const refCharsMax = 512;

const component = '[a-z0-9]+(?:(?:\\.|_|__|-+)[a-z0-9]+)*';
const repositoryPattern = new RegExp(`^${component}(?:/${component})*$`);
const tagPattern = /^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$/;
const digestPattern = /^sha256:[0-9a-f]{64}$/;
const registryPattern =
  /^(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9a-fA-F:]+\])(?::\d{1,5})?$/;

/**
 * Reads a reference as podman does: `debian` is `docker.io/library/debian:latest`, a first part
 * with a dot, a colon or `localhost` is a registry, `docker://` may stand in front.
 * @throws IMAGE_INVALID
 */
export function parseImageRef(text: string): ImageRef {
  const image = text.trim();
  if (image.length === 0 || image.length > refCharsMax) {
    throw invalid(text, `a reference has 1 to ${refCharsMax} characters`);
  }
  const local = /^(oci-archive|dir):(.*)$/.exec(image);
  if (local) return localRef(image, local[1] as 'oci-archive' | 'dir', local[2] ?? '');
  return registryRef(image, image.replace(/^docker:\/\//, ''));
}

function localRef(image: string, kind: 'oci-archive' | 'dir', path: string): ImageRef {
  if (!path.startsWith('/') || /[\u0000-\u001f:]/.test(path)) {
    throw invalid(image, 'name an absolute path without a colon');
  }
  if (path.split('/').includes('..')) throw invalid(image, 'the path must not hold ..');
  const plain = path.replace(/\/+/g, '/').replace(/(?<=.)\/$/, '');
  return { kind, normalized: `${kind}:${plain}`, path: plain };
}

function registryRef(image: string, name: string): ImageRef {
  const [beforeDigest = '', digest, ...more] = name.split('@');
  if (more.length > 0 || (digest !== undefined && !digestPattern.test(digest))) {
    throw invalid(image, 'a digest looks like @sha256: and 64 hexadecimal digits');
  }
  const slash = beforeDigest.lastIndexOf('/');
  const colon = beforeDigest.indexOf(':', slash + 1);
  const path = colon < 0 ? beforeDigest : beforeDigest.slice(0, colon);
  const tag = colon < 0 ? undefined : beforeDigest.slice(colon + 1);
  if (tag !== undefined && !tagPattern.test(tag)) throw invalid(image, `"${tag}" is no tag`);
  const { registry, repository } = splitRegistry(path);
  if (!registryPattern.test(registry)) throw invalid(image, `"${registry}" is no registry`);
  if (!repositoryPattern.test(repository)) {
    throw invalid(image, 'names are lower case letters and digits, parted by . _ - and /');
  }
  // As podman: beside a digest, a tag decides nothing.
  const suffix = digest ? `@${digest}` : `:${tag ?? defaultTag}`;
  return {
    kind: 'registry',
    normalized: `${registry}/${repository}${suffix}`,
    registry,
    repository,
    ...(digest ? { digest } : { tag: tag ?? defaultTag }),
  };
}

function splitRegistry(path: string): { registry: string; repository: string } {
  const slash = path.indexOf('/');
  const first = slash < 0 ? '' : path.slice(0, slash);
  const isRegistry = first.includes('.') || first.includes(':') || first === 'localhost';
  const registry = isRegistry
    ? first.replace(/^index\.docker\.io$/, defaultRegistry)
    : defaultRegistry;
  const rest = isRegistry ? path.slice(slash + 1) : path;
  const isOfficial = registry === defaultRegistry && rest !== '' && !rest.includes('/');
  return { registry, repository: isOfficial ? `library/${rest}` : rest };
}

/** `*` in a pattern stands for anything: `docker.io/library/*`, `localhost/*`. */
export function isAllowed(normalized: string, patterns: readonly string[]): boolean {
  return patterns.some((pattern) => {
    const parts = pattern.split('*').map((part) => part.replace(/[.+?^${}()|[\]\\]/g, '\\$&'));
    return new RegExp(`^${parts.join('.*')}$`).test(normalized);
  });
}

function invalid(image: string, reason: string): Error {
  return RunnerErrors.IMAGE_INVALID({ image: image.slice(0, 200), reason });
}

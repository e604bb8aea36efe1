import { describe, expect, it } from '@jest/globals';
import { isAllowed, parseImageRef } from '@rookery/runner';

const digest = `sha256:${'a'.repeat(64)}`;

describe('an image reference', () => {
  it.each([
    ['debian', 'docker.io/library/debian:latest'],
    ['debian:13', 'docker.io/library/debian:13'],
    ['docker://debian:13', 'docker.io/library/debian:13'],
    ['library/debian', 'docker.io/library/debian:latest'],
    ['someone/app:v1', 'docker.io/someone/app:v1'],
    ['index.docker.io/library/debian:13', 'docker.io/library/debian:13'],
    ['docker.io/debian', 'docker.io/library/debian:latest'],
    ['localhost/rookery/debian:13', 'localhost/rookery/debian:13'],
    ['localhost:5000/a', 'localhost:5000/a:latest'],
    ['registry.example.org:8443/a/b/c:1.2-x', 'registry.example.org:8443/a/b/c:1.2-x'],
    [`debian@${digest}`, `docker.io/library/debian@${digest}`],
    [`debian:13@${digest}`, `docker.io/library/debian@${digest}`],
    ['oci-archive:/srv/images//x.tar', 'oci-archive:/srv/images/x.tar'],
    ['dir:/srv/images/x/', 'dir:/srv/images/x'],
  ])('%s is %s', (image, normalized) => {
    expect(parseImageRef(image).normalized).toBe(normalized);
  });

  it.each([
    '',
    ' ',
    'Debian',
    'debian:',
    'debian:.x',
    'debian@sha256:12',
    `debian@${digest}@${digest}`,
    'a b',
    'a//b',
    '/a',
    'a/',
    '-a',
    'https://example.org/a',
    'oci-archive:relative.tar',
    'dir:/srv/../etc',
    'dir:/srv:x',
    'a'.repeat(600),
    'debian;rm -rf /',
    '--privileged',
  ])('%p is refused', (image) => {
    expect(() => parseImageRef(image)).toThrow(expect.objectContaining({ code: 'IMAGE_INVALID' }));
  });

  it('is matched by patterns as a whole', () => {
    const patterns = ['docker.io/library/*', 'localhost/rookery/debian:13'];
    expect(isAllowed('docker.io/library/debian:13', patterns)).toBe(true);
    expect(isAllowed('localhost/rookery/debian:13', patterns)).toBe(true);
    expect(isAllowed('localhost/rookery/debian:130', patterns)).toBe(false);
    expect(isAllowed('evil.org/docker.io/library/debian:13', patterns)).toBe(false);
    expect(isAllowed('dockerXio/library/debian:13', patterns)).toBe(false);
  });
});

import { describe, expect, it } from '@jest/globals';
import { isProjectUrl, parseProjectPath } from '@rookery/proxy';

const id = '0f4f4a54-7d5c-4c1e-9a55-2b9f3f0f8a11';
const path = { kind: 'path', projectId: id };

describe('parseProjectPath', () => {
  it.each([
    [`/${id}/port/80/`, { mode: 'port', port: 80, upstreamUrl: `/${id}/port/80/` }],
    [`/${id}/port/80/a/b?c=//..#`.slice(0, -1), { upstreamUrl: `/${id}/port/80/a/b?c=//..` }],
    [`/${id}/server/65535/a?b`, { mode: 'server', port: 65535, upstreamUrl: '/a?b' }],
    [`/${id}/server/1/`, { port: 1, upstreamUrl: '/', base: `/${id}/server/1/` }],
    [`/${id.toUpperCase()}/port/80/x`, { upstreamUrl: `/${id}/port/80/x` }],
    [`/${id}/port/80/a..b/.c/d.`, { upstreamUrl: `/${id}/port/80/a..b/.c/d.` }],
    [`/${id}/port/80/%C3%A9%20`, { upstreamUrl: `/${id}/port/80/%C3%A9%20` }],
    [
      `/${id}/server/80/a?x=1&rookery_token=T.t&y=2`,
      { upstreamUrl: '/a?x=1&y=2', fullUrl: `/${id}/server/80/a?x=1&y=2`, queryToken: 'T.t' },
    ],
    [`/${id}/server/80/?rookery_token=a`, { upstreamUrl: '/', queryToken: 'a' }],
    [`/${id}/server/80/?rookery%5ftoken=a`, { upstreamUrl: '/', queryToken: 'a' }],
    [`/${id}/server/80/?rookery_token`, { upstreamUrl: '/', queryToken: undefined }],
    [
      `/${id}/server/80/?rookery_token=a&x&rookery_token=b`,
      { upstreamUrl: '/?x', queryToken: 'a' },
    ],
    // All of it is the name of one parameter: neither a token nor cut out.
    [
      `/${id}/server/80/?a?rookery_token=a`,
      { upstreamUrl: '/?a?rookery_token=a', queryToken: undefined },
    ],
    [
      `/${id}/server/80/?a;rookery_token=a`,
      { upstreamUrl: '/?a;rookery_token=a', queryToken: undefined },
    ],
    // npm's registries take scoped packages so.
    [`/${id}/port/80/@scope%2fname`, { upstreamUrl: `/${id}/port/80/@scope%2fname` }],
    [`/${id}/server/80/@scope%2Fname//x`, { upstreamUrl: '/@scope%2Fname//x' }],
    [`/${id}/server/80//`, { upstreamUrl: '//', fullUrl: `/${id}/server/80//` }],
    [`/${id}/port/80//a//b`, { upstreamUrl: `/${id}/port/80//a//b` }],
    [`/${id}/server/80/a%2f..b`, { upstreamUrl: '/a%2f..b' }],
    [`/${id}/server/80/?rookery_token=`, { upstreamUrl: '/', queryToken: undefined }],
  ])('reads %s', (url, expected) => {
    expect(parseProjectPath(url)).toMatchObject({ ...path, ...expected });
  });

  it.each([
    [`/${id}/port/80`, `/${id}/port/80/`],
    [`/${id}/server/80?a=b/c`, `/${id}/server/80/?a=b/c`],
  ])('redirects %s', (url, location) => {
    expect(parseProjectPath(url)).toEqual({ kind: 'redirect', location });
  });

  it.each([
    [`/${id}/port/0/`],
    [`/${id}/port/70000/`],
    [`/${id}/port/65536/`],
    [`/${id}/port/+80/`],
    [`/${id}/port/-80/`],
    [`/${id}/port/080/`],
    [`/${id}/port/8e1/`],
    [`/${id}/port/80.0/`],
    [`/${id}/port/0x50/`],
    [`/${id}/port/%38%30/`],
    [`/${id}/port/80%20/`],
    [`/${id}/port/99999999999999999999/`],
    [`/${id}/port/`],
    [`/${id}/port`],
  ])('refuses the port of %s', (url) => {
    expect(() => parseProjectPath(url)).toThrow(
      expect.objectContaining({ code: 'PROXY_PORT_INVALID', status: 400 }),
    );
  });

  it.each([
    ['/port/80/'],
    ['/nobody/port/80/'],
    [`/${id}/`],
    [`/${id}`],
    [`/${id}/Port/80/`],
    [`/${id}/ports/80/`],
    [`/${id.replaceAll('-', '')}/port/80/`],
    [`/${id}x/port/80/`],
    [`/%30${id.slice(1)}/port/80/`],
    [`//${id}/port/80/`],
    [`/${id}//port/80/`],
    [`/${id}/port/80//../x`],
    [`/${id}/port/80/../../x`],
    [`/${id}/port/80/..`],
    [`/${id}/port/80/./a`],
    [`/${id}/port/80/%2e%2e/a`],
    [`/${id}/port/80/.%2E/a`],
    [`/${id}/port/80/%2e/a`],
    [`/${id}/../${id}/port/80/`],
    [`/${id}%2fport/80/`],
    [`/${id}/port%2f80/`],
    [`/${id}/port/80/a%2f..`],
    [`/${id}/port/80/%2e%2e%2fa`],
    [`/${id}/port/80/a%2f.%2fb`],
    [`/${id}/port/80/..%2f..%2fetc`],
    [`/${id}/port/80/a%5Cb`],
    [`/${id}/port/80/a\\b`],
    [`/${id}/port/80/%00`],
    [`/${id}/port/80/%0d%0aX-Evil:1`],
    [`/${id}/port/80/%7f`],
    [`/${id}/port/80/%`],
    [`/${id}/port/80/%zz`],
    [`/${id}/port/80/a b`],
    [`/${id}/port/80/\u00e9`],
    [`/${id}/port/80/\0`],
    [`/${id}/port/80/#x`],
    [`/${id}/port/80/?a\r\nb`],
    [`http://other.example/${id}/port/80/`],
    [`${id}/port/80/`],
    ['*'],
    [''],
    [`/${id}/port/80/${'a'.repeat(20_000)}`],
  ])('refuses %j', (url) => {
    expect(() => parseProjectPath(url)).toThrow(
      expect.objectContaining({ code: 'PROXY_PATH_INVALID', status: 400 }),
    );
  });

  it.each([
    [`/${id}/port/80/`, true],
    [`/${id.toUpperCase()}`, true],
    [`/${id}%2fport`, true],
    [`//${id}/x`, true],
    ['/port/80/', true],
    ['/nobody/port/0/', true],
    ['/nobody/server/+1', true],
    ['/', false],
    ['/api/v1/projects', false],
    [`/api/v1/projects/${id}`, false],
    ['/support/1', false],
    ['/conat', false],
    [undefined, false],
  ])('claims %s: %s', (url, ours) => {
    expect(isProjectUrl(url)).toBe(ours);
  });
});

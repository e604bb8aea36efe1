import { expect, it } from '@jest/globals';
import { parseMounts } from '../src/index.js';

it('reads mount tables with spaces and overlays', () => {
  const [mount, ...rest] = parseMounts(
    '36 35 0:44 /a /data/my\\040dir/merged rw,relatime shared:1 - overlay overlay rw,lowerdir=/data/a,upperdir=/data/b\n',
  );
  expect(rest).toEqual([]);
  expect(mount).toEqual({
    path: '/data/my dir/merged',
    root: '/a',
    device: '0:44',
    fsType: 'overlay',
    source: 'overlay',
    options: ['rw', 'relatime'],
    superOptions: 'rw,lowerdir=/data/a,upperdir=/data/b',
  });
});

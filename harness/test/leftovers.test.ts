import { describe, expect, it } from '@jest/globals';
import { leftoversSince, type Inventory } from '@rookery/harness';

const inventory = (parts: Partial<Inventory> = {}): Inventory => ({
  mounts: ['/', '/proc'],
  loopDevices: [],
  networkNamespaces: [],
  links: ['lo', 'eth0'],
  nftTables: [],
  processes: ['17 postgres -D /data'],
  ...parts,
});

describe('leftoversSince', () => {
  it('finds nothing where nothing changed, whatever the order', () => {
    const after = inventory({ mounts: ['/proc', '/'], links: ['eth0', 'lo'] });
    expect(leftoversSince(inventory(), after)).toEqual([]);
  });

  it('names what is new of every kind, and its kind', () => {
    const after: Inventory = {
      mounts: ['/', '/proc', '/mnt/volume'],
      loopDevices: ['/dev/loop7 /tmp/volume.img'],
      networkNamespaces: ['rk-project'],
      links: ['lo', 'eth0', 'veth0'],
      nftTables: ['table ip rookery'],
      processes: ['17 postgres -D /data', '18 conmon --cid x'],
    };
    expect(leftoversSince(inventory(), after)).toEqual([
      'mounts: /mnt/volume',
      'loopDevices: /dev/loop7 /tmp/volume.img',
      'networkNamespaces: rk-project',
      'links: veth0',
      'nftTables: table ip rookery',
      'processes: 18 conmon --cid x',
    ]);
  });

  it('does not mind what has gone', () => {
    expect(leftoversSince(inventory(), inventory({ mounts: ['/'], processes: [] }))).toEqual([]);
  });

  it('counts mounts that are stacked on one path', () => {
    const before = inventory({ mounts: ['/', '/mnt'] });
    const after = inventory({ mounts: ['/', '/mnt', '/mnt', '/mnt'] });
    expect(leftoversSince(before, after)).toEqual(['mounts: /mnt', 'mounts: /mnt']);
  });
});

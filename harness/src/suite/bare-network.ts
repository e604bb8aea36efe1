import { readFile, writeFile } from 'node:fs/promises';
import type { Exec, Reverter } from '@rookery/core';

/** A namespace with a way out through this machine; removed by the reverter. */
export async function addBareNetwork(exec: Exec, name: string, undo: Reverter): Promise<string> {
  const token = (process.pid % 4096).toString(16);
  const [outside, inside] = [`rkb${token}o`, `rkb${token}i`];
  const subnet = `10.212.${process.pid % 256}`;
  const ip = (...args: string[]): Promise<unknown> => exec.run(['ip', ...args]);
  await ip('netns', 'add', name);
  undo.add(() => ip('netns', 'delete', name));
  await ip('link', 'add', outside, 'type', 'veth', 'peer', 'name', inside, 'netns', name);
  undo.add(() => exec.run(['ip', 'link', 'delete', outside], { okExits: [0, 1] }));
  await ip('address', 'add', `${subnet}.1/24`, 'dev', outside);
  await ip('link', 'set', outside, 'up');
  await ip('-n', name, 'address', 'add', `${subnet}.2/24`, 'dev', inside);
  await ip('-n', name, 'link', 'set', inside, 'up');
  await ip('-n', name, 'link', 'set', 'lo', 'up');
  await ip('-n', name, 'route', 'add', 'default', 'via', `${subnet}.1`);
  const table = `rookery_bare_${token}`;
  await exec.run(['nft', '-f', '-'], {
    input: `table ip ${table} {
  chain out { type nat hook postrouting priority 100; ip saddr ${subnet}.0/24 masquerade; }
}\n`,
  });
  undo.add(() => exec.run(['nft', 'delete', 'table', 'ip', table]));
  const forward = '/proc/sys/net/ipv4/ip_forward';
  const before = (await readFile(forward, 'utf8')).trim();
  await writeFile(forward, '1');
  if (before === '0') undo.add(() => writeFile(forward, '0'));
  return name;
}

import { readFile } from 'node:fs/promises';
import { z } from 'zod';
import { RunnerErrors } from '../runner.errors.js';

/** Where podman's packages put its default profile. */
const profilePaths = ['/usr/share/containers/seccomp.json', '/etc/containers/seccomp.json'];

/** linux/btrfs.h: the second byte of every btrfs ioctl number, and the first of the denied ones. */
const btrfsMagic = 0x94;
const deniedBtrfsIoctls: Readonly<Record<string, number>> = {
  SNAP_CREATE: 1,
  SUBVOL_CREATE: 14,
  SNAP_DESTROY: 15,
  SNAP_CREATE_V2: 23,
  SUBVOL_CREATE_V2: 24,
  SUBVOL_SETFLAGS: 26,
  SNAP_DESTROY_V2: 63,
};

interface MaskedMatch {
  readonly mask: number;
  readonly value: number;
}

const Profile = z.looseObject({
  syscalls: z.array(z.looseObject({ names: z.array(z.string()), action: z.string() })),
});

/**
 * podman's default profile, which also denies the btrfs ioctls that make or change subvolumes: a
 * nested one would be missing from snapshots, moves and backups.
 */
export async function seccompProfile(): Promise<string> {
  for (const path of profilePaths) {
    const text = await readFile(path, 'utf8').catch(() => undefined);
    if (text !== undefined) return JSON.stringify(denyBtrfsIoctls(JSON.parse(text)));
  }
  throw RunnerErrors.CONTAINER_RUNTIME_UNUSABLE({
    reason: `there is no seccomp profile at ${profilePaths.join(' or ')}`,
  });
}

/**
 * seccomp rules of one system call are alternatives, and an unconditional one wins over all others.
 * So "ioctl, but not these" is written as the list of what is allowed. Only bytes 0 and 1 of the
 * number are compared: the kernel ignores the upper 32 bits of the argument, and the numbers of
 * 32-bit programs differ in size and direction alone.
 */
function denyBtrfsIoctls(profile: unknown): unknown {
  const parsed = Profile.parse(profile);
  const syscalls = parsed.syscalls.flatMap((rule) => {
    if (rule.action !== 'SCMP_ACT_ALLOW' || !rule.names.includes('ioctl')) return [rule];
    return [{ ...rule, names: rule.names.filter((name) => name !== 'ioctl') }];
  });
  const allowed = allowedIoctls().map(({ mask, value }) => ({
    names: ['ioctl'],
    action: 'SCMP_ACT_ALLOW',
    args: [{ index: 1, value: mask, valueTwo: value, op: 'SCMP_CMP_MASKED_EQ' }],
  }));
  return { ...parsed, syscalls: [...syscalls.filter((rule) => rule.names.length > 0), ...allowed] };
}

/** Masked comparisons, any of which allows: another magic byte, or a btrfs number not denied. */
function allowedIoctls(): MaskedMatch[] {
  const otherMagic = bits.map((bit) => ({
    mask: 1 << (8 + bit),
    value: (btrfsMagic & (1 << bit)) === 0 ? 1 << (8 + bit) : 0,
  }));
  const otherNumber = complement(Object.values(deniedBtrfsIoctls)).map(({ mask, value }) => ({
    mask: 0xff00 | mask,
    value: (btrfsMagic << 8) | value,
  }));
  return [...otherMagic, ...otherNumber];
}

const bits = [0, 1, 2, 3, 4, 5, 6, 7];

/** The bytes that are not in `numbers`, as few masked comparisons: a walk down the binary tree. */
function complement(numbers: readonly number[], mask = 0, value = 0, bit = 7): MaskedMatch[] {
  const inside = numbers.filter((number) => (number & mask) === value);
  if (inside.length === 0) return [{ mask, value }];
  if (bit < 0) return [];
  const next = mask | (1 << bit);
  return [
    ...complement(inside, next, value, bit - 1),
    ...complement(inside, next, value | (1 << bit), bit - 1),
  ];
}

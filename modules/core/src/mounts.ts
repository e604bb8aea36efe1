import { readFile } from 'node:fs/promises';

/** A line of a mount table. */
export interface Mount {
  /** Where it is mounted, seen from the process whose table it is. */
  readonly path: string;
  /** The folder of the file system that is mounted there. */
  readonly root: string;
  /** Major and minor number of the file system; the same in every namespace. */
  readonly device: string;
  readonly fsType: string;
  readonly source: string;
  /** Of this mount: `nosuid`, `ro` … */
  readonly options: readonly string[];
  /** Of the file system, as one text: layers of an overlay have commas of their own. */
  readonly superOptions: string;
}

/**
 * Parses what `/proc/<pid>/mountinfo` holds, see proc_pid_mountinfo(5); in the order of mounting.
 * `36 35 98:0 /root /path rw,nosuid shared:1 - btrfs /dev/loop0 rw,space_cache`
 */
export function parseMounts(mountinfo: string): Mount[] {
  return mountinfo.split('\n').flatMap((line) => {
    const [before = '', after = ''] = line.split(' - ');
    const [, , device = '', root = '', path, options = ''] = before.split(' ');
    const [fsType = '', source = '', superOptions = ''] = after.split(' ');
    if (path === undefined) return [];
    return [
      {
        path: unescapeOctal(path),
        root: unescapeOctal(root),
        device,
        fsType,
        source: unescapeOctal(source),
        options: options.split(','),
        superOptions,
      },
    ];
  });
}

/** The mounts that a process sees; this one when none is named. */
export async function readMounts(pid: number | 'self' = 'self'): Promise<Mount[]> {
  return parseMounts(await readFile(`/proc/${pid}/mountinfo`, 'utf8'));
}

/** Spaces and the like are written as octal escapes. */
const unescapeOctal = (text: string): string =>
  text.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(parseInt(octal, 8)));

import { access, constants } from 'node:fs/promises';
import { join } from 'node:path';
import type { Exec } from '@rookery/core';
import type { HostConfig } from '../config/config.js';
import { HostErrors } from '../host.errors.js';

/** One of these programs must be there; `from` is Debian's package. */
interface Program {
  readonly oneOf: readonly string[];
  readonly from: string;
}

/**
 * Looks for all that a host needs of its machine, before anything is made or tried.
 * @throws HOST_PARTS_MISSING that names everything at once
 */
export async function requireParts(config: HostConfig, exec: Exec): Promise<void> {
  const missing = [
    ...(await missingPrograms(programsOf(config), exec)),
    ...(await missingFiles(config)),
  ];
  if (missing.length > 0) throw HostErrors.HOST_PARTS_MISSING({ parts: missing.join('; ') });
}

function programsOf(config: HostConfig): Program[] {
  return [
    { oneOf: ['podman'], from: 'podman' },
    { oneOf: ['crun', 'runc'], from: 'runc' },
    { oneOf: ['nft'], from: 'nftables' },
    { oneOf: ['ip'], from: 'iproute2' },
    ...each(['mount', 'losetup', 'unshare', 'nsenter', 'setpriv'], 'util-linux'),
    ...(config.storageDriver === 'directory'
      ? []
      : each([config.btrfsProgram, 'mkfs.btrfs'], 'btrfs-progs')),
    ...(config.backup ? [{ oneOf: ['rustic', 'restic'], from: 'restic' }] : []),
  ];
}

const each = (names: readonly string[], from: string): Program[] =>
  names.map((name) => ({ oneOf: [name], from }));

async function missingPrograms(programs: readonly Program[], exec: Exec): Promise<string[]> {
  const names = programs.flatMap((one) => one.oneOf);
  const script = 'for name do command -v "$name" >/dev/null && echo "$name"; done; true';
  const { stdout } = await exec.run(['sh', '-c', script, 'sh', ...names]);
  const there = new Set(stdout.split('\n'));
  return programs
    .filter(({ oneOf }) => !oneOf.some((name) => there.has(name)))
    .map(({ oneOf, from }) => `the program ${oneOf.join(' or ')} (package ${from})`);
}

async function missingFiles({ toolsDir, localImages }: HostConfig): Promise<string[]> {
  const missing: string[] = [];
  if (!(await isReadable(join(toolsDir, 'bin/rookery-init')))) {
    missing.push(`the tools bundle in ${toolsDir} (images/tools/build.sh, ROOKERY_TOOLS_DIR)`);
  }
  for (const [image, archive] of Object.entries(localImages)) {
    if (!(await isReadable(archive))) {
      missing.push(
        `the archive ${archive} of ${image} (images/rootfs/build.sh, ROOKERY_LOCAL_IMAGES)`,
      );
    }
  }
  return missing;
}

const isReadable = (path: string): Promise<boolean> =>
  access(path, constants.R_OK).then(
    () => true,
    () => false,
  );

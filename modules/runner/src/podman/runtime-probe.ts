import { CodedError, type Exec } from '@rookery/core';
import { RunnerErrors } from '../runner.errors.js';
import { isUnified } from './cgroups.js';

/**
 * Chooses the OCI runtime. crun starts faster, but its versions before 1.9 refuse a hybrid of
 * cgroup versions; runc works everywhere.
 */
export async function chooseRuntime(exec: Exec, wanted: 'auto' | 'runc' | 'crun'): Promise<string> {
  const candidates = wanted === 'auto' ? ['crun', 'runc'] : [wanted];
  const unified = await isUnified();
  const reasons: string[] = [];
  for (const name of candidates) {
    try {
      const { stdout } = await exec.run([name, '--version']);
      if (name === 'crun' && !unified && olderThan(stdout, [1, 9])) {
        reasons.push('crun is older than 1.9 and the machine has no pure cgroup v2');
        continue;
      }
      return name;
    } catch (error) {
      if (!CodedError.is(error)) throw error;
      reasons.push(error.message);
    }
  }
  throw RunnerErrors.CONTAINER_RUNTIME_UNUSABLE({ reason: reasons.join('; ') });
}

function olderThan(versionText: string, [major, minor]: readonly [number, number]): boolean {
  const match = /version (\d+)\.(\d+)/.exec(versionText);
  const [haveMajor = 0, haveMinor = 0] = (match ?? []).slice(1).map(Number);
  return haveMajor < major || (haveMajor === major && haveMinor < minor);
}

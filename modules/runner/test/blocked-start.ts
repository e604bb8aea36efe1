import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { access, open, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createLogger, GiB, MiB, newId, SystemClock, SystemExec, waitFor } from '@rookery/core';
import type { ProjectId } from '@rookery/core/contract';
import { ContainerReconciler, RunnerService } from '@rookery/runner';
import { baseImage, MemoryProjectStore, type TestHost } from '@rookery/runner/testing';
import type { BtrfsStorageDriver } from '@rookery/storage';

/** Far less than the time that a start is given. */
const limitMs = 10_000;
const quota = { diskBytes: 1 * GiB, memoryBytes: 96 * MiB, cpus: 1, pidsMax: 100 };
const spec = { image: baseImage, quota, publicPorts: [] };

interface Parts {
  readonly host: TestHost;
  readonly storage: BtrfsStorageDriver;
}

/**
 * One start hangs in the OCI runtime, where podman holds the lock of its container; all else goes on.
 * The driver's host has no other project while this runs.
 */
export function blockedStart(parts: () => Parts): void {
  describe('while the start of one project hangs in the runtime', () => {
    const store = new MemoryProjectStore();
    const log = createLogger('blocked-start', 'silent');
    const clock = new SystemClock();
    let service: RunnerService;
    let reconciler: ContainerReconciler;
    let runtime: { readonly path: string; readonly script: string };
    let gate: { readonly hold: string; readonly held: string; readonly fifo: string };
    let [running, stopped, blocked, dead]: ProjectId[] = [];
    let start: Promise<unknown>;

    const fenceOf = (projectId: ProjectId) => {
      return { projectId, generation: 1, operationId: newId(), attempt: 1 };
    };
    async function made(isStarted: boolean): Promise<ProjectId> {
      const projectId = newId();
      await service.create(fenceOf(projectId), spec);
      if (isStarted) await service.start(fenceOf(projectId), spec);
      return projectId;
    }
    const statesOf = async (...ids: (ProjectId | undefined)[]) => {
      const states = new Map((await parts().host.driver.list()).map((s) => [s.projectId, s.state]));
      return ids.map((id) => states.get(id!));
    };
    const soon = async <T>(task: Promise<T>): Promise<T> => {
      const from = performance.now();
      const result = await task;
      expect(performance.now() - from).toBeLessThan(limitMs);
      return result;
    };

    beforeAll(async () => {
      const { host, storage } = parts();
      const { driver, images } = host;
      service = new RunnerService({ driver, images, storage, store, log, clock });
      reconciler = new ContainerReconciler({ store, driver, runtime: service.runtime, clock, log });
      [running, stopped, blocked, dead] = [
        await made(true),
        await made(false),
        await made(false),
        await made(true),
      ];
      const at = (name: string): string => join(host.folder, name);
      gate = { hold: at('hold'), held: at('held'), fifo: at('gate') };
      await new SystemExec().run(['mkfifo', gate.fifo]);
      const path = at('state/oci-runtime');
      runtime = { path, script: await readFile(path, 'utf8') };
      const wait = `rm ${gate.hold}; : >${gate.held}; read -r line <${gate.fifo}`;
      const stop = `if [ -e ${gate.hold} ]; then case " $* " in *" create "*) ${wait} ;; esac; fi`;
      await writeFile(path, runtime.script.replace('set -eu\n', `set -eu\n${stop}\n`));
      await writeFile(gate.hold, '');
      start = service.start(fenceOf(blocked), spec);
      start.catch(() => undefined);
      const isHeld = () =>
        access(gate.held).then(
          () => true,
          () => false,
        );
      await waitFor('the runtime is held', isHeld, { timeoutMs: 20_000, everyMs: 20 });
    });
    afterAll(async () => {
      await writeFile(runtime.path, runtime.script);
      service.runtime.close();
    });

    it('lists all containers, that one as created', async () => {
      const states = await soon(statesOf(running, stopped, blocked));
      expect(states).toEqual(['running', undefined, 'created']);
      expect(await soon(service.get(running!))).toMatchObject({ state: 'running' });
    });

    it('starts and stops others', async () => {
      await soon(service.start(fenceOf(stopped!), spec));
      await soon(service.stop(fenceOf(running!), 0));
      expect(await statesOf(running, stopped, blocked)).toEqual([undefined, 'running', 'created']);
    });

    it('looks after the others: what has died is started again', async () => {
      const pid = await readFile(join(parts().host.folder, 'run/projects', dead!, 'pid'), 'utf8');
      process.kill(Number(pid), 'SIGKILL');
      await waitFor('it has ended', async () => (await statesOf(dead))[0] === 'exited', {
        timeoutMs: limitMs,
      });
      expect(await soon(reconciler.run())).toMatchObject([{ kind: 'start', projectId: dead }]);
      expect((await service.get(dead!)).error).toMatchObject({ details: { exit: 137 } });
      expect(await statesOf(dead, blocked)).toEqual(['running', 'created']);
    });

    it('finds all of it again after a restart of the host’s process', async () => {
      const again = await soon(parts().host.reopened());
      const states = (await soon(again.list())).map(({ state }) => state).sort();
      expect(states).toEqual(['created', 'running', 'running']);
      await writeFile(runtime.path, runtime.script);
    });

    it('runs itself when the runtime goes on', async () => {
      await using file = await open(gate.fifo, 'w');
      await file.write('go\n');
      await start;
      expect(await statesOf(blocked)).toEqual(['running']);
      for (const id of [stopped, blocked, dead]) {
        await service.stop(fenceOf(id!), 0);
        await parts().host.driver.forget(id!, { graceMs: 0 });
      }
    });
  });
}

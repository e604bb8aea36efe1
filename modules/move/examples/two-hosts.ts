/** Two hosts in one process; a project moves from the first to the second. */
import 'reflect-metadata';
import { readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { loopback } from '@rookery/rpc/testing';
import { MiB, newId } from '@rookery/core';
import { Quota } from '@rookery/core/contract';
import {
  MoveDestinationService,
  MoveHosts,
  MoveModule,
  moveProject,
  MoveSourceService,
  newSagaRecord,
  SagaExecutor,
  TransferReceiver,
} from '@rookery/move';
import { moveDestination, moveSource } from '@rookery/fleet/contract';
import {
  LocalTransferSender,
  MemoryHostProjects,
  MemoryImageTrees,
  MemoryIngressGate,
  MemoryMoveJournal,
  MemoryMoveDebts,
  MemoryPlacementAuthority,
  MemorySagaStore,
} from '@rookery/move/testing';
import { MemoryStorageDriver } from '@rookery/storage';

@Module({})
class HostApp {}

/** Both hosts' ingresses, by host: what the network is elsewhere. */
const receivers = new Map<string, TransferReceiver>();

async function startHost() {
  const hostId = newId();
  const transferKey = `ssh-ed25519 ${Buffer.from(hostId).toString('base64')}`;
  const storage = new MemoryStorageDriver();
  await storage.open();
  const projects = new MemoryHostProjects();
  const parts = {
    storage,
    projects,
    sender: new LocalTransferSender(hostId, transferKey, receivers),
    journal: new MemoryMoveJournal(),
    gate: new MemoryIngressGate(),
  };
  const imports = [MoveModule.forRoot({ parts, reserveBytes: 0 })];
  const app = await NestFactory.createApplicationContext(
    { module: HostApp, imports },
    { logger: false },
  );
  receivers.set(hostId, app.get(TransferReceiver));
  const close = async (): Promise<void> => {
    await app.close();
    await storage.close();
  };
  return { hostId, transferKey, storage, projects, app, close };
}

type Host = Awaited<ReturnType<typeof startHost>>;

class LocalHosts extends MoveHosts {
  constructor(private readonly hosts: readonly Host[]) {
    super();
  }

  override source(hostId: string) {
    return loopback(moveSource, this.app(hostId).get(MoveSourceService));
  }

  override destination(hostId: string) {
    return loopback(moveDestination, this.app(hostId).get(MoveDestinationService));
  }

  private app(hostId: string) {
    return this.hosts.find((host) => host.hostId === hostId)!.app;
  }
}

/** @returns how the move ended, and where the project's home is now */
export async function run() {
  const [from, to] = [await startHost(), await startHost()] as const;
  try {
    const [projectId, moveId, operationId] = [newId(), newId(), newId()];
    const quota = Quota.parse({ diskBytes: 64 * MiB });
    const spec = { image: 'localhost/rookery/debian:13', quota, publicPorts: [] };
    const { paths } = await from.storage.createVolume(projectId, { quotaBytes: quota.diskBytes });
    await writeFile(join(paths.home, 'hello'), 'moved');
    await from.projects.adopt(projectId, 1, spec, true);
    await from.projects.startContainer(projectId);

    // What the hub's database does: who owns the project, the move's row, the operation's record.
    const authority = new MemoryPlacementAuthority();
    const [fromHostId, toHostId] = [from.hostId, to.hostId];
    const move = { moveId, projectId, fromHostId, toHostId };
    authority.place(projectId, fromHostId, 1);
    authority.add({
      ...move,
      expectedGeneration: 1,
      spec,
      target: { hostId: toHostId, sshHost: 'to', sshPort: 22, ingressKey: to.transferKey },
      sourceTransferKey: from.transferKey,
    });
    const store = new MemorySagaStore();
    store.create(newSagaRecord(moveProject, { operationId, input: move }));

    const executor = new SagaExecutor({ store });
    const [debts, images] = [new MemoryMoveDebts(), new MemoryImageTrees()];
    const ports = { authority, hosts: new LocalHosts([from, to]), debts, images };
    const outcome = await executor.run(moveProject, ports, store.claim(operationId));
    return {
      outcome,
      fromHostId,
      toHostId,
      runsOn: [from, to]
        .filter((host) => host.projects.running.has(projectId))
        .map((h) => h.hostId),
      volumes: {
        from: await from.storage.volume(projectId),
        to: await to.storage.volume(projectId),
      },
      files: await readHome(to, projectId),
    };
  } finally {
    await Promise.all([from.close(), to.close()]);
  }
}

async function readHome(host: Host, projectId: string): Promise<string[]> {
  const volume = await host.storage.volume(projectId);
  return volume ? readdir(volume.paths.home) : [];
}

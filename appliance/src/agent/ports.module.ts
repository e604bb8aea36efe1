import { Module } from '@nestjs/common';
import type { Logger } from '@rookery/core';
import { HostProjects, ImageSource, IngressGate, MoveModule, TransferSender } from '@rookery/move';
import { MoveJournal } from '@rookery/move';
import { ImageStore, RunnerModule, RunnerService, type RunnerModuleOptions } from '@rookery/runner';
import { StorageDriver } from '@rookery/storage';
import { ProjectTokens } from '../access/project-tokens.js';
import { SqliteHostProjects, SqliteIngressGate } from '../projects/move-projects.js';
import { ProjectAccounts } from '../projects/project-accounts.js';
import { ProjectRepository } from '../projects/project.repository.js';
import { CONFIG, type HostConfig } from '../config/config.js';
import { HostErrors } from '../host.errors.js';
import { HostRecord } from '../hub/host-record.js';
import type { HostIdentity } from '../identity/identity.js';
import { DatabaseModule } from './database.module.js';
import { HostWriters } from './host-writers.js';
import { FetchedImages } from './image-source.js';
import { RunnerControl } from './runner-control.js';
import { IDENTITY, LOGGER } from './tokens.js';
import { SshTransferSender } from './transfer-sender.js';

/** Containers, over the host's own books and storage. */
export const runnerModule = RunnerModule.forRootAsync({
  imports: [DatabaseModule],
  inject: [CONFIG, StorageDriver, ProjectRepository, LOGGER, ProjectTokens],
  useFactory: (
    config: HostConfig,
    storage: StorageDriver,
    store: ProjectRepository,
    log: Logger,
    extras: ProjectTokens,
  ): RunnerModuleOptions => {
    const { paths, imageAllowlist } = config;
    return {
      podman: {
        hostKey: config.hostKey,
        stateDir: paths.containers,
        runDir: paths.containersRun,
        toolsDir: config.toolsDir,
        volumeDir: paths.volume,
        ids: config.ids,
        ...(config.memoryReserveBytes !== undefined && {
          memoryReserveBytes: config.memoryReserveBytes,
        }),
        network: {
          cidr: config.projectCidr,
          hostPorts: [config.agentPort],
          egress: config.egress.mode,
          egressAllow: [...config.egress.allow],
        },
      },
      images: {
        stateDir: paths.images,
        localImages: { ...config.localImages },
        ...(imageAllowlist && { allowedImages: [...imageAllowlist] }),
        collect: config.imageCollect,
      },
      // The agent's own lifecycle does that, so that a slow start does not hold up the others.
      reconcileMs: 0,
      parts: { storage, store, log, extras },
    };
  },
});

/** The ports of moves, wired to books, containers and keys. */
@Module({
  imports: [DatabaseModule, runnerModule],
  providers: [
    {
      provide: RunnerControl,
      inject: [RunnerService, HostWriters, ProjectAccounts],
      useFactory: (runner: RunnerService, writers: HostWriters, accounts: ProjectAccounts) =>
        new RunnerControl(runner, writers, accounts),
    },
    {
      provide: HostProjects,
      inject: [ProjectRepository, RunnerControl],
      useFactory: (books: ProjectRepository, control: RunnerControl) =>
        new SqliteHostProjects(books, control),
    },
    {
      provide: IngressGate,
      inject: [ProjectRepository],
      useFactory: (books: ProjectRepository) => new SqliteIngressGate(books),
    },
    {
      provide: ImageSource,
      inject: [ImageStore],
      useFactory: (images: ImageStore) => new FetchedImages(images),
    },
    {
      provide: TransferSender,
      inject: [IDENTITY, HostRecord],
      useFactory: ({ transferKey }: HostIdentity, record: HostRecord) =>
        new SshTransferSender(transferKey.privateKey, async () => {
          const known = await record.get();
          if (!known) throw HostErrors.HOST_NOT_JOINED();
          return known.hostId;
        }),
    },
  ],
  exports: [RunnerControl, HostProjects, ImageSource, IngressGate, TransferSender],
})
export class PortsModule {}

/** The host's side of moves. */
export const moveModule = MoveModule.forRootAsync({
  imports: [DatabaseModule, PortsModule],
  inject: [StorageDriver, HostProjects, TransferSender, MoveJournal, IngressGate, ImageSource],
  useFactory: (
    storage: StorageDriver,
    projects: HostProjects,
    sender: TransferSender,
    journal: MoveJournal,
    gate: IngressGate,
    images: ImageSource,
  ) => ({ parts: { storage, projects, sender, journal, gate, images } }),
});

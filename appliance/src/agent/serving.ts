import { serve, type ServiceServer } from '@rookery/rpc';
import type { ConatClient } from '@rookery/conat';
import type { CallContext, Handlers, JobContext } from '@rookery/rpc/contract';
import type { Fence } from '@rookery/core/contract';
import type { hostBackups, hostCopies, hostProjects, hostSnapshots } from '@rookery/fleet/contract';
import { HostErrors } from '../host.errors.js';
import type { HostCopies } from '../projects/host-copies.js';
import type { ProjectAccounts } from '../projects/project-accounts.js';
import type { ProjectRepository } from '../projects/project.repository.js';
import { RunnerErrors } from '@rookery/runner';
import type { HostWriters } from './host-writers.js';
import type { RunnerControl } from './runner-control.js';

/** A contract with its handlers, ready to be served on a connection. */
export type ServiceOnOffer = (
  client: ConatClient,
  params: { hostId: string },
) => Promise<ServiceServer>;

/** Remembers what to serve; the hub link serves it on its connection. */
export class Services {
  private readonly servers: ServiceServer[] = [];

  constructor(private readonly offers: readonly ServiceOnOffer[]) {}

  readonly serveAll = async (client: ConatClient, hostId: string): Promise<void> => {
    // A try that failed half way is begun anew.
    await this.close();
    for (const offer of this.offers) this.servers.push(await offer(client, { hostId }));
  };

  /** Takes no more calls, aborts jobs under way and waits for their ends. */
  async close(): Promise<void> {
    await Promise.all(this.servers.splice(0).map((server) => server.close()));
  }
}

/** Pairs a contract with its handlers. */
export function offer<C extends Parameters<typeof serve>[1]>(
  contract: C,
  handlers: Handlers<C>,
): ServiceOnOffer {
  return (client, params) => serve(client, contract, handlers, { params });
}

type AnyHandler = (input: unknown, context: CallContext) => Promise<unknown>;

/**
 * Puts the books in front of a service: a call that carries a fence passes only at the project's
 * generation, and counts as a writer that a move can wait for.
 */
export function fenced<H extends Handlers<typeof hostSnapshots> | Handlers<typeof hostBackups>>(
  handlers: H,
  methods: readonly (keyof H & string)[],
  { books, writers }: { books: ProjectRepository; writers: HostWriters },
): H {
  const guarded: Record<string, AnyHandler> = {};
  for (const [name, handler] of Object.entries(handlers as unknown as Record<string, AnyHandler>)) {
    if (typeof handler !== 'function') continue;
    if (!methods.includes(name as keyof H & string)) {
      guarded[name] = handler.bind(handlers);
      continue;
    }
    guarded[name] = async (input, context) => {
      const { fence } = input as { fence: Fence };
      await books.admit(fence);
      return writers.run(fence.projectId, context.signal, async (signal) => {
        // Between the look and the entry a move may have fenced it: look again, now being counted.
        await books.admit(fence);
        return handler.call(handlers, input, withSignal(context, signal));
      });
    };
  }
  return guarded as unknown as H;
}

/** The same context, progress of a job included, with another signal. */
function withSignal(context: CallContext, signal: AbortSignal): CallContext {
  const { params, caller } = context;
  if (!('progress' in context)) return { params, caller, signal };
  const job = context as JobContext;
  return { params, caller, signal, progress: (step) => job.progress(step) } as JobContext;
}

/** Whoever shuts the writers out of a project waits for those that came before. */
export function shuttingOut(
  projects: Handlers<typeof hostProjects>,
  control: Pick<RunnerControl, 'shutOut'>,
): Handlers<typeof hostProjects> {
  return {
    ...projects,
    stop: async (input, context) => {
      const view = await projects.stop(input, context);
      const { projectId } = input.fence;
      if (input.writers === 'shut-out') {
        await control.shutOut(projectId, RunnerErrors.PROJECT_BUSY_ARCHIVING({ projectId }));
      }
      return view;
    },
  };
}

/**
 * Backups where storage has no snapshots read the live files: persistence is closed meanwhile, as a
 * database that is copied while it is written is none.
 */
export function closingStores(
  backups: Handlers<typeof hostBackups>,
  accounts: ProjectAccounts,
): Handlers<typeof hostBackups> {
  return {
    run: (input, context) =>
      accounts.whileClosed(input.fence.projectId, () => backups.run(input, context)),
    list: (input, context) => backups.list(input, context),
    listAll: (input, context) => backups.listAll(input, context),
    describe: (input, context) => backups.describe(input, context),
    repository: (input, context) => backups.repository(input, context),
    init: (input, context) => backups.init(input, context),
    restore: (input, context) => backups.restore(input, context),
    settle: (input, context) => backups.settle(input, context),
    restorePath: (input, context) => backups.restorePath(input, context),
  };
}

/**
 * Where storage has no snapshots a clone reads the live files, too: the origin's persistence is
 * closed meanwhile.
 */
export function cloningClosed(
  handlers: Handlers<typeof hostProjects>,
  accounts: Pick<ProjectAccounts, 'whileClosed'>,
): Handlers<typeof hostProjects> {
  return {
    ...handlers,
    clone: (input, context) =>
      accounts.whileClosed(input.fromProjectId, () => handlers.clone(input, context)),
  };
}

/** A project that was taken back is reached here again, whatever its last move said. */
export function adoptingOpen(
  handlers: Handlers<typeof hostProjects>,
  books: ProjectRepository,
): Handlers<typeof hostProjects> {
  const adopt: (typeof handlers)['adopt'] = async (input, context) => {
    const view = await handlers.adopt(input, context);
    await books.change(input.fence.projectId, (row, save) => {
      if (row && row.ingressState !== 'open') save({ ingressState: 'open' });
    });
    return view;
  };
  return { ...handlers, adopt };
}

/** Serves what lies on the host beside its own projects. */
export const copyHandlers = (copies: HostCopies): Handlers<typeof hostCopies> => ({
  list: async () => ({ copies: await copies.list() }),
  keep: async ({ projectId, kept }) => {
    await copies.keep(projectId, kept);
    return {};
  },
  delete: async ({ fence }) => {
    await copies.delete(fence);
    return {};
  },
});

/** Answers of a host without a repository. */
export const noBackups: Handlers<typeof hostBackups> = {
  run: async () => {
    throw HostErrors.BACKUPS_NOT_CONFIGURED();
  },
  list: async () => ({ backups: [] }),
  listAll: async () => {
    throw HostErrors.BACKUPS_NOT_CONFIGURED();
  },
  describe: async () => {
    throw HostErrors.BACKUPS_NOT_CONFIGURED();
  },
  repository: async () => {
    throw HostErrors.BACKUPS_NOT_CONFIGURED();
  },
  init: async () => {
    throw HostErrors.BACKUPS_NOT_CONFIGURED();
  },
  restore: async () => {
    throw HostErrors.BACKUPS_NOT_CONFIGURED();
  },
  settle: async () => ({ placed: false }),
  restorePath: async () => {
    throw HostErrors.BACKUPS_NOT_CONFIGURED();
  },
};

import { CodedError, toCodedError } from '@rookery/core';
import type { CodedErrorView, Fence, ProjectListener } from '@rookery/core/contract';
import { isStartFault, type SagaEnding, type StepContext, type SagaTypes } from '@rookery/move';
import type { Project } from '../../database/entities/project.entity.js';
import type { HostConnections } from '../../hosts/host-connections.js';
import { HubErrors } from '../../hub.errors.js';
import { homeless, specOf } from '../../projects/project.queries.js';
import type { ProjectRepository } from '../../projects/project.repository.js';

/** What the hub's own sagas work with. */
export interface HubPorts {
  readonly hosts: HostConnections;
  readonly records: ProjectRepository;
}

/** A saga about one project. */
export interface ProjectSagaTypes extends SagaTypes {
  readonly ports: HubPorts;
  readonly input: { readonly projectId: string };
  readonly state: object;
}

export type ProjectContext = StepContext<ProjectSagaTypes>;

export interface PlacedProject extends Project {
  readonly hostId: string;
}

/** The project of this saga, on a host. @throws PROJECT_ARCHIVED */
export async function placed(context: ProjectContext): Promise<PlacedProject> {
  const project = await context.ports.records.load(context.input.projectId);
  if (project.hostId === null) throw homeless(project);
  return project as PlacedProject;
}

export const fenceFor = (
  context: Pick<ProjectContext, 'operationId' | 'attempt' | 'claim'>,
  project: Pick<Project, 'id' | 'placementGeneration'>,
): Fence => ({
  projectId: project.id,
  generation: project.placementGeneration,
  operationId: context.operationId,
  attempt: context.attempt,
  claim: context.claim,
});

/** @throws SNAPSHOTS_LOCKED */
export function refuseLockedOf(
  snapshots: readonly { readonly name: string; readonly locked: boolean }[],
): void {
  const names = snapshots.filter(({ locked }) => locked).map(({ name }) => name);
  if (names.length > 0) throw HubErrors.SNAPSHOTS_LOCKED({ names: names.join(', ') });
}

export const jobOptions = (context: ProjectContext) => ({
  signal: context.signal,
  onProgress: (progress: Parameters<ProjectContext['progress']>[0]) => context.progress(progress),
});

/**
 * Starts the project, making its volume first where no host has it yet.
 * @param options.listeners what listened on the host where it ran before
 * @param options.rescue absent: in the mode in which it was started last
 * @throws RESCUE_UNSUPPORTED
 */
export async function startProject(
  context: ProjectContext,
  options: {
    readonly listeners?: readonly ProjectListener[] | undefined;
    readonly rescue?: boolean;
  } = {},
): Promise<void> {
  const { hosts, records } = context.ports;
  const { listeners } = options;
  let project = await placed(context);
  if (!project.provisioned) {
    await createOnHost(context);
    project = await placed(context);
  }
  if (project.state !== 'running') {
    await records.change(context, project, { state: 'starting', error: null });
  }
  const { rescue = project.rescue } = options;
  const view = await hosts.projects(project.hostId).start(
    {
      fence: fenceFor(context, project),
      spec: specOf({ ...project, rescue }),
      ...(listeners && { listeners: [...listeners] }),
    },
    jobOptions(context),
  );
  await records.fromHost(context, project, view);
  // A host of an earlier release takes no notice of what it does not know.
  if (rescue && view.spec.rescue !== true) throw HubErrors.RESCUE_UNSUPPORTED();
}

/** Of an operation that stops a project for its work and starts it again. */
export interface StartedAgain {
  /** Why it does not run although it ran before: the operation has done its work all the same. */
  readonly startError?: CodedErrorView;
}

/**
 * {@link startProject} for what stands after the work, or undoes it. What a project holds may keep
 * it from starting; the work is done for all that, and nobody could get an operation out of that by
 * trying again: the project shows the error.
 */
export async function startAgain(
  context: ProjectContext,
  listeners?: readonly ProjectListener[],
): Promise<StartedAgain> {
  for (let last = false; ; last = true) {
    try {
      await startProject(context, { listeners });
      return {};
    } catch (thrown) {
      const error = toCodedError(thrown);
      if (!isStartFault(error) || aboutNoStart.includes(error.code)) throw thrown;
      if (error.retryable && !last) continue;
      const { code, message, status, retryable } = error;
      const startError = { code, message, status, retryable };
      const project = await placed(context);
      await context.ports.records.change(context, project, { state: 'error', error: startError });
      return { startError };
    }
  }
}

/** Not the host's word on a start: it was not asked, or asked by a worker of yesterday. */
const aboutNoStart = [
  'HOST_OFFLINE',
  'TIMEOUT',
  'CANCELED',
  'INTERRUPTED',
  'PROJECT_MOVING',
  'PROJECT_ARCHIVED',
  'STALE_ATTEMPT',
  'STALE_GENERATION',
  'PROJECT_NOT_HERE',
  'PROJECT_NOT_OWNED',
  'INTERNAL',
];

export async function createOnHost(context: ProjectContext): Promise<void> {
  const project = await placed(context);
  const { hosts, records } = context.ports;
  const view = await hosts
    .projects(project.hostId)
    .create({ fence: fenceFor(context, project), spec: specOf(project) }, jobOptions(context));
  await records.fromHost(context, project, view);
}

/**
 * @param options.startsAgain the same operation starts it again: until then requests wait.
 * @returns what listened in it
 */
export async function stopProject(
  context: ProjectContext,
  options: { readonly graceMs?: number; readonly startsAgain?: boolean } = {},
): Promise<readonly ProjectListener[]> {
  const { hosts, records } = context.ports;
  const project = await placed(context);
  if (!project.provisioned) return [];
  await records.change(context, project, { state: 'stopping' });
  const view = await hosts
    .projects(project.hostId)
    .stop({ fence: fenceFor(context, project), ...options }, jobOptions(context));
  await records.fromHost(context, project, view);
  return view.listeners ?? [];
}

/**
 * Shows on the project why its operation failed. What the host says of the project's state is
 * believed first; when it cannot be asked, what was before still holds.
 */
export async function showFailure(
  context: ProjectContext,
  ending: SagaEnding,
  before?: Project['state'],
): Promise<void> {
  if (ending !== 'failed' && ending !== 'canceled') return;
  const { records } = context.ports;
  const project = await records.load(context.input.projectId);
  if (project.deletedAt !== null) return;
  const { error } = await records.operation(context.operationId);
  const fallback = isOwnFault(error) ? 'error' : (before ?? project.state);
  const atHost = await stateAtHost(context, project);
  await records.change(context, project, {
    state: atHost?.state ?? fallback,
    ...(atHost && { rescue: atHost.rescue }),
    ...(ending === 'failed' && { error }),
  });
}

async function stateAtHost(
  context: ProjectContext,
  project: Project,
): Promise<Pick<Project, 'state' | 'rescue'> | undefined> {
  if (project.hostId === null) return project;
  try {
    const host = context.ports.hosts.projects(project.hostId, { patienceMs: 0 });
    const view = await host.get({ projectId: project.id });
    const { generation, state, spec } = view;
    if (generation !== project.placementGeneration) return undefined;
    return { state, rescue: spec.rescue === true };
  } catch {
    return undefined;
  }
}

const passing = ['HOST_OFFLINE', 'TIMEOUT', 'CANCELED', 'PROJECT_MOVING'];

/** False for what says nothing about the project itself. */
const isOwnFault = (error: CodedErrorView | null): boolean =>
  error !== null && !error.retryable && !passing.includes(error.code);

export const isOffline = (error: unknown): boolean => CodedError.is(error, 'HOST_OFFLINE');

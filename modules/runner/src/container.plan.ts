import type { ProjectId } from '@rookery/core/contract';
import type { ContainerStatus } from './container.driver.js';
import { isRescue, type ProjectRecord } from './project.store.js';

/** What has to be done for each kind of difference; the keys are the kinds. */
export interface ContainerActions {
  /** It runs and should: the record catches up. */
  adopt: { readonly projectId: ProjectId; readonly status: ContainerStatus };
  /** It should run and does not; `ended`: it did, and ended by itself. */
  start: { readonly projectId: ProjectId; readonly ended?: ContainerStatus };
  /** It is there and should not be, or not as it is. */
  stop: { readonly projectId: ProjectId };
  /** It is gone, as it should be: the record catches up. */
  settle: { readonly projectId: ProjectId };
}

export type ContainerAction = {
  [K in keyof ContainerActions]: { readonly kind: K } & ContainerActions[K];
}[keyof ContainerActions];

/**
 * Compares every record with every container. Containers of unknown projects are not its business:
 * the driver removes strays.
 */
export function planContainers(
  records: readonly ProjectRecord[],
  containers: readonly ContainerStatus[],
): ContainerAction[] {
  const byProject = new Map(containers.map((container) => [container.projectId, container]));
  return records.flatMap((record): ContainerAction[] => {
    const { projectId } = record;
    const container = byProject.get(projectId);
    // A move or restore that holds the project decides itself what its container does.
    if (record.fencedBy !== null || record.restoringBy !== null) return [];
    if (record.state === 'archived') return container ? [{ kind: 'stop', projectId }] : [];
    if (record.desiredState === 'stopped') {
      if (container) return [{ kind: 'stop', projectId }];
      const isSettled = !['starting', 'running', 'stopping'].includes(record.state);
      return isSettled ? [] : [{ kind: 'settle', projectId }];
    }
    if (container?.state !== 'running') {
      const ended = record.state === 'running' && container?.state === 'exited';
      return [{ kind: 'start', projectId, ...(ended && { ended: container }) }];
    }
    // A process died between the wish and its stop: it is started in the other mode afterwards.
    if ((container.rescue === true) !== isRescue(record)) return [{ kind: 'stop', projectId }];
    const isKnown =
      record.state === 'running' &&
      record.address === (container.address ?? null) &&
      record.linkIndex === (container.linkIndex ?? null);
    return isKnown ? [] : [{ kind: 'adopt', projectId, status: container }];
  });
}
